"""The flax modules of actor and critic, each made from a `ModelConfig`."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from ppo_jax.options import load
from ppo_jax.policies.activations import ACTIVATIONS
from ppo_jax.policies.conv import Encoders
from ppo_jax.policies.groups import Seen
from ppo_jax.policies.heads import HEADS, CategoricalHead
from ppo_jax.policies.mlp import MLP, Linear
from ppo_jax.policies.models import (
    DistributionConfig,
    EncoderConfig,
    ModelConfig,
    is_own_class,
)
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
        features, gain = _hidden(self.config, x), _output_gain(self.config)
        if isinstance(self.action_space, Discrete):
            num_actions = self.action_space.num_actions
            return CategoricalHead(num_actions, gain, name="head")(features)
        config = self.config.distribution_cfg or DistributionConfig()
        head = HEADS[config.class_name]
        return head(self.action_space.dim, config, gain, name="head")(features)


class Critic(nn.Module):
    """Hidden layers and one output."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [..., D] to the value [...]."""
        return self._value(x)

    def _value(self, x: Array) -> Array:
        features, gain = _hidden(self.config, x), _output_gain(self.config)
        return Linear(1, gain=gain, name="head")(features)[..., 0]


def _hidden(config: ModelConfig, x: Array) -> Array:
    """Returns the output of the hidden layers; within a module."""
    gain = config.hidden_gain if config.initialization == "orthogonal" else None
    return MLP(
        config.hidden_dims, config.activation, config.layer_norm, gain, name="mlp"
    )(x)


def _output_gain(config: ModelConfig) -> float | None:
    return config.output_gain if config.initialization == "orthogonal" else None


class VectorEncoder(nn.Module):
    """Hidden layers and a linear one, of a single observation group."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [..., D] to [..., latent_dim]."""
        config = self.config
        x = MLP(config.hidden_dims, config.activation, name="mlp")(x)
        x = Linear(config.latent_dim, name="head")(x)
        last = config.last_activation
        return ACTIVATIONS[last.lower()](x) if last else x


class VectorEncoders(nn.Module):
    """An encoder for each group that is to have one."""

    config: ModelConfig

    @nn.compact
    def __call__(self, groups: Mapping[str, Array]) -> list[Array]:
        """Maps {group: [..., D]} to the features of each, in order."""
        return [
            VectorEncoder(self.config.encoder_cfg[group], name=group)(x)
            for group, x in groups.items()
        ]


class EncodedActor(Actor):
    """Encoders of single groups, hidden layers and a distribution head."""

    @property
    def encoded_groups(self) -> tuple[str, ...]:
        """Which groups it reads apart, see `groups.split_vectors`."""
        return tuple(self.config.encoder_cfg)

    @nn.compact
    def __call__(self, x: Seen) -> Any:
        """Maps vectors, apart and together, to a distribution over actions."""
        return self._distribution(_joined(self.config, x))


class EncodedCritic(Critic):
    """Encoders of single groups, hidden layers and one output."""

    @property
    def encoded_groups(self) -> tuple[str, ...]:
        """Which groups it reads apart, see `groups.split_vectors`."""
        return tuple(self.config.encoder_cfg)

    @nn.compact
    def __call__(self, x: Seen) -> Array:
        """Maps vectors, apart and together, to the value [...]."""
        return self._value(_joined(self.config, x))


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


def split_memory(module: nn.Module) -> tuple[RNN, nn.Module] | None:
    """Returns the recurrent layers of one of our modules, and what reads their output.

    Both take the module's parameters: the layers those of its "rnn". None of a module
    that has no such layers.
    """
    if type(module) is RecurrentActor:
        return _rnn(module.config), Actor(module.config, module.action_space)
    if type(module) is RecurrentCritic:
        return _rnn(module.config), Critic(module.config)
    return None


# {class_name: (actor, critic)}
MODULES: dict[str, tuple[Any, Any]] = {
    "MLPModel": (Actor, Critic),
    "RNNModel": (RecurrentActor, RecurrentCritic),
    "CNNModel": (ConvActor, ConvCritic),
}


def make_modules(
    actor: ModelConfig, critic: ModelConfig, action_space: ActionSpace
) -> tuple[nn.Module, nn.Module]:
    """Returns the modules of both models.

    Raises:
      ValueError: a class of one's own cannot be imported or made, or is no module.
    """
    return (
        _class_of(actor, "actor")(actor, action_space),
        _class_of(critic, "critic")(critic),
    )


def _class_of(config: ModelConfig, model: str) -> Any:
    """Returns the class, or function, that makes a model's module."""
    if is_own_class(config.class_name):
        return partial(_own, config.class_name, model)
    index = ("actor", "critic").index(model)
    if config.encoder_cfg:
        return (EncodedActor, EncodedCritic)[index]
    return MODULES[config.class_name][index]


def _own(path: str, model: str, *arguments: Any) -> nn.Module:
    """Returns somebody's own module, made as ours are."""
    field = f"{model}.class_name"
    found = load(path, field)
    wanted = "config" if model == "critic" else "config and action_space"
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        raise ValueError(
            f"{field} = {path!r} is no flax module: give a subclass of "
            f"flax.linen.Module with the fields {wanted}"
        )
    try:
        return found(*arguments)
    except TypeError as error:
        raise ValueError(
            f"{field} = {path!r} cannot be made ({error}): its first fields are to be "
            f"{wanted}, and others need defaults"
        ) from None


def _joined(config: ModelConfig, x: Seen) -> Array:
    """Returns the vectors and, after them, the features of each encoded group."""
    features = VectorEncoders(config, name="encoders")(x.images)
    return jnp.concatenate([x.vector, *features], axis=-1)


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
