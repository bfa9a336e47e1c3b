"""Policies of every kind of network, to be exported: not as they were drawn."""

from dataclasses import replace

import jax
import numpy as np
from drawn import drawn

from ppo_jax import Continuous, TrainState
from ppo_jax.export import export_policy
from ppo_jax.learning.ppo import make_ppo
from ppo_jax.loops.evaluation import Observed
from ppo_jax.policies.models import CNNConfig, ModelConfig
from ppo_jax.runs.config import Config, parts_of

T, N = 30, 3
ARM = Continuous(2)
RNN = ModelConfig(
    class_name="RNNModel",
    rnn_hidden_dim=8,
    hidden_dims=(6,),
    obs_normalization=True,
)
LSTM2, GRU = replace(RNN, rnn_num_layers=2), replace(RNN, rnn_type="gru")
MEMORIES = {
    "lstm": RNN,
    "lstm2": LSTM2,
    "gru": GRU,
    "gru2": replace(LSTM2, rnn_type="gru"),
}


def cnn(**how):
    config = CNNConfig(**{"output_channels": (3, 4)} | how)
    return ModelConfig(
        class_name="CNNModel",
        cnn_cfg=config,
        hidden_dims=(6,),
        obs_normalization=True,
    )


def observed(seed=0, is_first=None):
    """Vectors and images of two kinds; the first environment has one long episode."""
    rng = np.random.default_rng(seed)
    obs = {
        "policy": rng.normal(1.0, 3.0, (T, N, 5)).astype(np.float32),
        "camera": rng.integers(0, 256, (T, N, 3, 9, 8)).astype(np.uint8),
        "depth": rng.normal(0.0, 2.0, (T, N, 1, 7, 7)).astype(np.float32),
    }
    if is_first is None:
        is_first = rng.random((T, N)) < 0.2
        is_first[:, 0] = False
    return Observed(obs, is_first)


def learned(network, obs, seed=0):
    """A state in which every weight and statistic is another than at the start."""
    learned = drawn(network.init, jax.random.key(seed), obs, seed=seed)
    return TrainState(*learned, (), np.float32(1e-3), 7)


class Case:
    """A policy of one kind, in which every weight and statistic has moved."""

    def __init__(self, actor, groups=("policy",), action_space=ARM, seed=0):
        self.action_space, self.groups = action_space, groups
        obs_groups = {"actor": groups, "critic": ("policy",)}
        self.config = Config(task="Arm", actor=actor, obs_groups=obs_groups)
        self.network, self.ppo_config, _ = parts_of(self.config, action_space)
        obs = {name: x[0] for name, x in observed().obs.items()}
        self.state = learned(self.network, obs, seed)

    def export(self, path, seen=None, **how):
        seen = seen or observed()
        return export_policy(
            path, self.config, self.action_space, self.state, seen, **how
        )

    def played(self, seen):
        """Returns what PPO.play gives, [T, N, A], step by step as in an evaluation."""
        ppo = make_ppo(self.network, self.ppo_config)
        play = jax.jit(ppo.play)
        start = carry = ppo.initial_carry(self.first(seen))
        actions = []
        for step, first in enumerate(seen.is_first):
            reset = lambda x, new, first=first: np.where(first[:, None], new, x)
            carry = jax.tree.map(reset, carry, start)
            obs = {name: x[step] for name, x in seen.obs.items()}
            action, carry = play(self.state, obs, carry)
            actions.append(action)
        return np.stack(actions)

    def first(self, seen):
        return {name: x[0] for name, x in seen.obs.items()}
