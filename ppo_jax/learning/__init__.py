"""What learns: advantages, losses, optimizers, and PPO, which binds them.

Here belongs a formula that turns a rollout into new parameters. What produces the
rollout, and what repeats, is in `ppo_jax.loops`.
"""
