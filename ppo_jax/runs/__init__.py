"""One run on a disk: its configuration, checkpoints, curves, and the loop on the host.

Here belongs what opens a file, reads a clock or waits for a signal, for a single run.
Many runs are `ppo_jax.sweeps`; what a person types is `ppo_jax.cli`.
"""
