"""Franka-Reach: position only; short horizons, so that a CPU learns it in seconds."""

from ppo_jax.config import AlgorithmConfig, Config
from ppo_jax.networks import DistributionConfig, ModelConfig

CONFIG = Config(
    task="Franka-Reach",
    num_envs=256,
    num_steps_per_env=8,
    max_iterations=600,
    save_interval=100,
    actor=ModelConfig(hidden_dims=(64, 64), distribution_cfg=DistributionConfig()),
    critic=ModelConfig(hidden_dims=(64, 64)),
    algorithm=AlgorithmConfig(
        num_learning_epochs=4,
        num_mini_batches=4,
        gamma=0.9,
        lam=0.9,
        entropy_coef=0.0,
        desired_kl=0.04,
    ),
)
