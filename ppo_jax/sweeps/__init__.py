"""Many runs: from axes to members, to programs, to a table of who was best.

Here belongs what plans, runs, keeps and ranks several runs. One run is `ppo_jax.runs`.
"""
