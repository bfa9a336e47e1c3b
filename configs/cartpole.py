"""Cartpole: the agent of Isaac-Cartpole-Direct, with 1024 environments for a CPU."""

from ppo_jax.config import AlgorithmConfig, Config
from ppo_jax.networks import DistributionConfig, ModelConfig

CONFIG = Config(
    task="Cartpole",
    num_envs=1024,
    num_steps_per_env=16,
    max_iterations=150,
    save_interval=50,
    solved_return=4.8,
    actor=ModelConfig(hidden_dims=(32, 32), distribution_cfg=DistributionConfig()),
    critic=ModelConfig(hidden_dims=(32, 32)),
    algorithm=AlgorithmConfig(
        learning_rate=1e-3,
        gamma=0.99,
        lam=0.95,
        entropy_coef=0.005,
    ),
)
