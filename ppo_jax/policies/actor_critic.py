"""A policy and a value function as pure functions: `actor_critic`, `from_modules`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from ppo_jax.policies.groups import concatenate, require_vectors, resolve_obs_groups
from ppo_jax.policies.heads import HEADS, CategoricalHead
from ppo_jax.policies.mlp import MLP, Linear
from ppo_jax.policies.models import DistributionConfig, ModelConfig
from ppo_jax.policies.normalization import init_stats, normalize, update_stats
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
        features = MLP(self.config.hidden_dims, self.config.activation, name="mlp")(x)
        return Linear(1, name="head")(features)[..., 0]


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
    network = from_modules(
        Actor(actor, action_space),
        Critic(critic),
        obs_groups,
        [name for name, model in models.items() if model.obs_normalization],
    )

    def init(key: Key, obs: Obs) -> tuple[Params, Any]:
        for groups in resolve_obs_groups(obs_groups or {}, obs).values():
            require_vectors(obs, groups)
        return network.init(key, obs)

    return network._replace(init=init)


def from_modules(
    actor: nn.Module,
    critic: nn.Module,
    obs_groups: Mapping[str, Sequence[str]] | None = None,
    obs_normalization: Collection[str] = (),
) -> ActorCritic:
    """Returns a policy and a value function of two flax modules, for instance your own.

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

    def select(obs: Obs) -> dict[str, Array]:
        groups = resolve_obs_groups(obs_groups or {}, obs)
        return {name: concatenate(obs, groups[name]) for name in modules}

    def init(key: Key, obs: Obs) -> tuple[Params, Any]:
        inputs = select(obs)
        keys = dict(zip(modules, jax.random.split(key), strict=True))
        params = {
            name: module.init(keys[name], inputs[name])["params"]
            for name, module in modules.items()
        }
        stats = {
            name: init_stats(inputs[name].shape[-1]) if normalized[name] else ()
            for name in modules
        }
        return params, stats

    def prepare(obs_stats: Any, obs: Obs) -> dict[str, Array]:
        return {
            name: normalize(obs_stats[name], x) if normalized[name] else x
            for name, x in select(obs).items()
        }

    def policy(params: Params, inputs: Any) -> Distribution:
        return modules["actor"].apply({"params": params["actor"]}, inputs["actor"])

    def value(params: Params, inputs: Any) -> Array:
        return modules["critic"].apply({"params": params["critic"]}, inputs["critic"])

    def update(obs_stats: Any, obs: Obs) -> Any:
        return {
            name: update_stats(obs_stats[name], x) if normalized[name] else ()
            for name, x in select(obs).items()
        }

    return ActorCritic(init, prepare, policy, value, update)
