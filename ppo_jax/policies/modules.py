"""The flax modules of actor and critic, each made from a `ModelConfig`."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from ppo_jax.policies.conv import Encoders
from ppo_jax.policies.groups import Seen
from ppo_jax.policies.heads import HEADS, CategoricalHead
from ppo_jax.policies.mlp import MLP, Linear
from ppo_jax.policies.models import DistributionConfig, ModelConfig
from ppo_jax.policies.recurrent import RNN, initial_memory
from ppo_jax.types import ActionSpace, Array, Discrete


class Actor(nn.Module):
    """Hidden layers and a distribution head."""

    config: ModelConfig
    action_space: ActionSpace

    @nn.compact
    def __call__(self, x: Array) -> Any:
        """Maps [..., D] to a distribution over actions."""
        return self._distribution(x)

    def _distribution(self, x: Array) -> Any:
        features = MLP(self.config.hidden_dims, self.config.activation, name="mlp")(x)
        if isinstance(self.action_space, Discrete):
            return CategoricalHead(self.action_space.num_actions, name="head")(features)
        config = self.config.distribution_cfg or DistributionConfig()
        head = HEADS[config.class_name]
        return head(self.action_space.dim, config, name="head")(features)


class Critic(nn.Module):
    """Hidden layers and one output."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [..., D] to the value [...]."""
        return self._value(x)

    def _value(self, x: Array) -> Array:
        features = MLP(self.config.hidden_dims, self.config.activation, name="mlp")(x)
        return Linear(1, name="head")(features)[..., 0]


class ConvActor(Actor):
    """Encoders of images, hidden layers and a distribution head."""

    sees_images = True

    @nn.compact
    def __call__(self, x: Seen) -> Any:
        """Maps vectors and images to a distribution over actions."""
        return self._distribution(_encoded(self.config, x))


class ConvCritic(Critic):
    """Encoders of images, hidden layers and one output."""

    sees_images = True

    @nn.compact
    def __call__(self, x: Seen) -> Array:
        """Maps vectors and images to the value [...]."""
        return self._value(_encoded(self.config, x))


class RecurrentActor(Actor):
    """LSTM or GRU, hidden layers and a distribution head."""

    @nn.compact
    def __call__(
        self, x: Array, memory: Any, is_first: Array | None = None
    ) -> tuple[Any, Any]:
        """Maps a step [N, D] or a sequence [T, N, D]; see `RNN`."""
        x, memory = _rnn(self.config)(x, memory, is_first)
        return self._distribution(x), memory

    def initial_memory(self, num_envs: int) -> Any:
        """Returns what `__call__` takes where an episode begins."""
        return _initial_memory(self.config, num_envs)


class RecurrentCritic(Critic):
    """LSTM or GRU, hidden layers and one output."""

    @nn.compact
    def __call__(
        self, x: Array, memory: Any, is_first: Array | None = None
    ) -> tuple[Array, Any]:
        """Maps a step [N, D] or a sequence [T, N, D]; see `RNN`."""
        x, memory = _rnn(self.config)(x, memory, is_first)
        return self._value(x), memory

    def initial_memory(self, num_envs: int) -> Any:
        """Returns what `__call__` takes where an episode begins."""
        return _initial_memory(self.config, num_envs)


# {class_name: (actor, critic)}
MODULES: dict[str, tuple[Any, Any]] = {
    "MLPModel": (Actor, Critic),
    "RNNModel": (RecurrentActor, RecurrentCritic),
    "CNNModel": (ConvActor, ConvCritic),
}


def _encoded(config: ModelConfig, x: Seen) -> Array:
    """Returns the vector and, after it, the features of each image."""
    features = Encoders(config, name="cnns")(x.images)
    return jnp.concatenate([x.vector, *features], axis=-1)


def _rnn(config: ModelConfig) -> RNN:
    return RNN(
        config.rnn_type, config.rnn_hidden_dim, config.rnn_num_layers, name="rnn"
    )


def _initial_memory(config: ModelConfig, num_envs: int) -> Any:
    return initial_memory(
        config.rnn_type, config.rnn_hidden_dim, config.rnn_num_layers, num_envs
    )
