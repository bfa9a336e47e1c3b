"""Recall: a small LSTM for policy and value; `gru` learns it as well.

A rollout is long enough to hold whole episodes: no gradient reaches a cue that an
earlier rollout saw.
"""

from ppo_jax.policies.models import DistributionConfig, ModelConfig
from ppo_jax.runs.config import AlgorithmConfig, Config

CONFIG = Config(
    task="Recall",
    num_envs=256,
    num_steps_per_env=32,
    max_iterations=30,
    save_interval=10,
    solved_return=0.95,
    actor=ModelConfig(
        class_name="RNNModel",
        rnn_hidden_dim=32,
        hidden_dims=(32,),
        distribution_cfg=DistributionConfig(init_std=1.0),
    ),
    critic=ModelConfig(class_name="RNNModel", rnn_hidden_dim=32, hidden_dims=(32,)),
    algorithm=AlgorithmConfig(
        num_learning_epochs=5,
        num_mini_batches=4,
        learning_rate=1e-3,
        gamma=0.99,
        lam=0.95,
        entropy_coef=0.0,
    ),
)
