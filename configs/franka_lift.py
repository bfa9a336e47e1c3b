"""Franka-Lift: the agent of Isaac Lab's Franka cube lift, as it ships there.

One thing is added: the task sees actions clipped to +- 5. It observes its last action,
and unclipped the two can push each other up without bound.
"""

from ppo_jax.policies.models import DistributionConfig, ModelConfig
from ppo_jax.runs.config import AlgorithmConfig, Config

CONFIG = Config(
    task="Franka-Lift",
    num_envs=4096,
    num_steps_per_env=24,
    max_iterations=1500,
    save_interval=50,
    clip_actions=5.0,
    actor=ModelConfig(
        hidden_dims=(256, 128, 64), distribution_cfg=DistributionConfig()
    ),
    critic=ModelConfig(hidden_dims=(256, 128, 64)),
    algorithm=AlgorithmConfig(
        num_learning_epochs=5,
        num_mini_batches=4,
        learning_rate=1e-4,
        gamma=0.98,
        lam=0.95,
        clip_param=0.2,
        entropy_coef=0.006,
        value_loss_coef=1.0,
        max_grad_norm=1.0,
        desired_kl=0.01,
    ),
)
