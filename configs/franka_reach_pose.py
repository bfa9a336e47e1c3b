"""Franka-Reach-Pose: the agent of Isaac-Reach-Franka, as it ships in Isaac Lab 3.0."""

from ppo_jax.policies.models import DistributionConfig, ModelConfig
from ppo_jax.runs.config import AlgorithmConfig, Config

CONFIG = Config(
    task="Franka-Reach-Pose",
    num_envs=4096,
    num_steps_per_env=24,
    max_iterations=1000,
    save_interval=50,
    actor=ModelConfig(hidden_dims=(64, 64), distribution_cfg=DistributionConfig()),
    critic=ModelConfig(hidden_dims=(64, 64)),
    algorithm=AlgorithmConfig(num_learning_epochs=8),
)
