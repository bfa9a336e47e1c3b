"""What acts: distributions, networks, and the normalisation of what they see.

Here belongs what maps observations to actions and values, as pure functions and flax
modules. What learns from a rollout is in `ppo_jax.learning`.
"""
