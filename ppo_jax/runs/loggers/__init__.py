"""Where a run's curves go beside its own folder: W&B, or a class of somebody's own.

Here belongs what a logger of a service needs. Each runs in a process of its own
(`process`), which training tells what happened and never waits for (`beside`).
"""
