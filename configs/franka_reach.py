"""Franka-Reach: position only, small and short-sighted: a CPU learns it in seconds."""

from ppo_jax.policies.models import DistributionConfig, ModelConfig
from ppo_jax.runs.config import AlgorithmConfig, Config

CONFIG = Config(
    task="Franka-Reach",
    num_envs=512,
    num_steps_per_env=16,
    max_iterations=150,
    save_interval=50,
    solved_return=0.3,
    actor=ModelConfig(hidden_dims=(64, 64), distribution_cfg=DistributionConfig()),
    critic=ModelConfig(hidden_dims=(64, 64)),
    algorithm=AlgorithmConfig(gamma=0.97, entropy_coef=0.0, desired_kl=0.02),
)
