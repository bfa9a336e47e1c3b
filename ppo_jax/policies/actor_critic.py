"""A policy and a value function as pure functions: `actor_critic`, `from_modules`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppo_jax.policies.conv import Encoders
from ppo_jax.policies.groups import (
    Seen,
    concatenate,
    require_vectors,
    require_vectors_and_images,
    resolve_obs_groups,
    split_images,
    vector_of,
    with_vector,
)
from ppo_jax.policies.heads import HEADS, CategoricalHead
from ppo_jax.policies.memory import apply_module, init_module, recurrence_of
from ppo_jax.policies.mlp import MLP, Linear
from ppo_jax.policies.models import DistributionConfig, ModelConfig
from ppo_jax.policies.normalization import (
    RunningStats,
    init_stats,
    normalize,
    update_stats,
)
from ppo_jax.policies.recurrent import RNN, initial_memory
from ppo_jax.types import (
    ActionSpace,
    ActorCritic,
    Array,
    Discrete,
    Distribution,
    Key,
    Obs,
    Params,
)


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
    assert config.cnn_cfg
    features = Encoders(config.cnn_cfg, name="cnns")(x.images)
    return jnp.concatenate([x.vector, *features], axis=-1)


def _rnn(config: ModelConfig) -> RNN:
    return RNN(
        config.rnn_type, config.rnn_hidden_dim, config.rnn_num_layers, name="rnn"
    )


def _initial_memory(config: ModelConfig, num_envs: int) -> Any:
    return initial_memory(
        config.rnn_type, config.rnn_hidden_dim, config.rnn_num_layers, num_envs
    )


def actor_critic(
    action_space: ActionSpace,
    actor: ModelConfig = ModelConfig(),
    critic: ModelConfig = ModelConfig(),
    obs_groups: Mapping[str, Sequence[str]] | None = None,
) -> ActorCritic:
    """Returns a policy and a value function of separate networks.

    Args:
      action_space: of the environment.
      actor: network of the policy; without `distribution_cfg`, a Gaussian with std 1.
      critic: network of the value.
      obs_groups: {"actor": groups, "critic": groups}, see `resolve_obs_groups`.

    Returns:
      Pure functions. Their params are {"actor": ..., "critic": ...}, their inputs
      {"actor": [..., Da], "critic": [..., Dc]}: the groups in the order given,
      concatenated and, where the model asks for it, normalised.

    Raises:
      ValueError: a distribution is configured for discrete actions; or, by `init`, a
        group that is read is no vector.
    """
    no_choice = (None, DistributionConfig())
    if isinstance(action_space, Discrete) and actor.distribution_cfg not in no_choice:
        raise ValueError(
            "actor.distribution_cfg is set, but the actions are discrete and always "
            "drawn from a categorical distribution: leave it away"
        )
    models = {"actor": actor, "critic": critic}
    if {actor.class_name, critic.class_name} == {"CNNModel", "RNNModel"}:
        raise ValueError(
            "actor and critic are a CNNModel and an RNNModel: sequences of images are "
            "not read, as in rsl_rl; give both without memory, or both without images"
        )
    network = from_modules(
        MODULES[actor.class_name][0](actor, action_space),
        MODULES[critic.class_name][1](critic),
        obs_groups,
        [name for name, model in models.items() if model.obs_normalization],
    )

    def init(key: Key, obs: Obs) -> tuple[Params, Any]:
        for name, groups in resolve_obs_groups(obs_groups or {}, obs).items():
            sees = models[name].class_name == "CNNModel"
            (require_vectors_and_images if sees else require_vectors)(obs, groups)
        return network.init(key, obs)

    return network._replace(init=init)


def from_modules(
    actor: nn.Module,
    critic: nn.Module,
    obs_groups: Mapping[str, Sequence[str]] | None = None,
    obs_normalization: Collection[str] = (),
) -> ActorCritic:
    """Returns a policy and a value function of two flax modules, for instance your own.

    A module sees images if it has an attribute `sees_images`, true. It then reads
    `groups.Seen`: vectors [..., D], and images [..., C, H, W] by their group.
    A module remembers if it has a method `initial_memory(num_envs)`. It then maps
    (x, memory, is_first) to (its output, memory): a step [N, D] where `is_first` is
    None, else a sequence [T, N, D], see `recurrent.RNN`.

    Args:
      actor: maps [..., Da] to a distribution (`types.Distribution`) over actions.
      critic: maps [..., Dc] to the value [...].
      obs_groups: {"actor": groups, "critic": groups}, see `resolve_obs_groups`.
      obs_normalization: which of "actor" and "critic" see observations normalised by
        running statistics.

    Returns:
      Pure functions, with params and inputs as `actor_critic` has them.
    """
    modules: dict[str, Any] = {"actor": actor, "critic": critic}
    normalized = {name: name in obs_normalization for name in modules}
    read = {
        name: split_images if getattr(module, "sees_images", False) else concatenate
        for name, module in modules.items()
    }

    def select(obs: Obs) -> dict[str, Any]:
        groups = resolve_obs_groups(obs_groups or {}, obs)
        return {name: read[name](obs, groups[name]) for name in modules}

    def init(key: Key, obs: Obs) -> tuple[Params, Any]:
        inputs = select(obs)
        keys = dict(zip(modules, jax.random.split(key), strict=True))
        params = {
            name: init_module(module, keys[name], inputs[name])
            for name, module in modules.items()
        }
        return params, {name: stats_of(name, x) for name, x in inputs.items()}

    def stats_of(name: str, x: Any) -> Any:
        return init_stats(vector_of(x).shape[-1]) if normalized[name] else ()

    def prepare(obs_stats: Any, obs: Obs) -> dict[str, Any]:
        return {
            name: _normalized(obs_stats[name], x) for name, x in select(obs).items()
        }

    def policy(params: Params, inputs: Any) -> Distribution:
        return apply_module(modules["actor"], params["actor"], inputs["actor"])

    def value(params: Params, inputs: Any) -> Array:
        return apply_module(modules["critic"], params["critic"], inputs["critic"])

    def update(obs_stats: Any, obs: Obs) -> Any:
        return {name: _updated(obs_stats[name], x) for name, x in select(obs).items()}

    recurrence = recurrence_of(modules)
    return ActorCritic(init, prepare, policy, value, update, recurrence)


def _normalized(stats: RunningStats | tuple[()], x: Any) -> Any:
    """Returns what a model reads, by its statistics if it has any."""
    if not isinstance(stats, RunningStats):
        return x
    return with_vector(x, normalize(stats, vector_of(x)))


def _updated(stats: RunningStats | tuple[()], x: Any) -> RunningStats | tuple[()]:
    if not isinstance(stats, RunningStats):
        return ()
    return update_stats(stats, vector_of(x))
