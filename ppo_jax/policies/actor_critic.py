"""A policy and a value function as pure functions: `actor_critic`, `from_modules`."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppo_jax.options import shown
from ppo_jax.policies.groups import (
    concatenate,
    require_vectors,
    require_vectors_and_images,
    resolve_obs_groups,
    split_images,
    split_vectors,
    vector_of,
    with_vector,
)
from ppo_jax.policies.memory import apply_module, init_module, recurrence_of
from ppo_jax.policies.models import DistributionConfig, ModelConfig, is_own_class
from ppo_jax.policies.modules import make_modules
from ppo_jax.policies.normalization import (
    RunningStats,
    init_stats,
    normalize,
    update_stats,
)
from ppo_jax.policies.own_modules import init_checked
from ppo_jax.policies.shards import Axis
from ppo_jax.policies.together import apply_all
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


def actor_critic(
    action_space: ActionSpace,
    actor: ModelConfig = ModelConfig(),
    critic: ModelConfig = ModelConfig(),
    obs_groups: Mapping[str, Sequence[str]] | None = None,
    share_cnn_encoders: bool = False,
) -> ActorCritic:
    """Returns a policy and a value function of two networks.

    Args:
      action_space: of the environment.
      actor: network of the policy; without `distribution_cfg`, a Gaussian with std 1.
      critic: network of the value.
      obs_groups: {"actor": groups, "critic": groups}, see `resolve_obs_groups`.
      share_cnn_encoders: the critic reads the encoders of the actor, and has none.

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
        *make_modules(actor, critic, action_space),
        obs_groups,
        [name for name, model in models.items() if model.obs_normalization],
        shared_parts(actor, critic) if share_cnn_encoders else (),
    )

    def init(key: Key, obs: Obs) -> tuple[Params, Any]:
        for name, groups in resolve_obs_groups(obs_groups or {}, obs).items():
            _require_groups(name, models[name], obs, groups)
        if not any(is_own_class(model.class_name) for model in models.values()):
            return network.init(key, obs)
        return init_checked(network, models, action_space, key, obs)

    return network._replace(init=init)


def _require_groups(
    name: str, model: ModelConfig, obs: Obs, groups: Sequence[str]
) -> None:
    """Raises ValueError where a model cannot read a group, or has one more encoder."""
    if is_own_class(model.class_name):
        return
    if model.class_name != "CNNModel":
        require_vectors(obs, groups)
        missing = sorted(model.encoder_cfg.keys() - set(groups))
        if missing:
            raise ValueError(
                f"{name}.encoder_cfg has an encoder for {missing[0]!r}, but the model "
                f"reads {', '.join(groups)}: leave it away, or name it in obs_groups"
            )
        return
    require_vectors_and_images(obs, groups)
    images = split_images(obs, groups).images
    if isinstance(model.cnn_cfg, dict) and model.cnn_cfg.keys() != images.keys():
        raise ValueError(
            f"{name}.cnn_cfg has encoders for {', '.join(model.cnn_cfg)}, but the "
            f"images are {', '.join(images)}: give one for each of them"
        )


def shared_parts(actor: ModelConfig, critic: ModelConfig) -> tuple[str, ...]:
    """Returns what a critic can share with an actor.

    Raises:
      ValueError: nothing, or they describe it differently.
    """
    has_encoders = actor.class_name == "CNNModel" or actor.encoder_cfg
    if not has_encoders or actor.class_name != critic.class_name:
        raise ValueError(
            "share_cnn_encoders is set, but actor and critic are a "
            f"{actor.class_name} and a {critic.class_name}: give both class_name = "
            "'CNNModel', or both an encoder_cfg, or leave it away"
        )
    field = "cnn_cfg" if actor.class_name == "CNNModel" else "encoder_cfg"
    if getattr(actor, field) != getattr(critic, field):
        raise ValueError(
            f"share_cnn_encoders is set, but critic.{field} is another one than "
            f"actor.{field}: give the critic the actor's, or leave share_cnn_encoders "
            "away"
        )
    return ("cnns",) if field == "cnn_cfg" else ("encoders",)


def from_modules(
    actor: nn.Module,
    critic: nn.Module,
    obs_groups: Mapping[str, Sequence[str]] | None = None,
    obs_normalization: Collection[str] = (),
    shared: Sequence[str] = (),
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
      shared: names of submodules that both have, and that the critic takes from the
        actor: its own params are without them.

    Returns:
      Pure functions, with params and inputs as `actor_critic` has them.
    """
    modules: dict[str, Any] = {"actor": actor, "critic": critic}
    normalized = {name: name in obs_normalization for name in modules}
    read = {name: _reader(module) for name, module in modules.items()}

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
        if shared:
            params["critic"] = _without_shared(params, shared)
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
        params = whole(params)
        return apply_module(modules["critic"], params["critic"], inputs["critic"])

    def whole(params: Params) -> Params:
        """Returns the parameters that each module reads."""
        taken = {name: params["actor"][name] for name in shared}
        return {**params, "critic": params["critic"] | taken} if shared else params

    def update(obs_stats: Any, obs: Obs, axis: Axis = None) -> Any:
        return {
            name: _updated(obs_stats[name], x, axis) for name, x in select(obs).items()
        }

    def policy_and_value(params: Params, inputs: Any) -> tuple[Distribution, Array]:
        return apply_all(modules, whole(params), inputs)

    recurrence = recurrence_of(modules, whole)
    if recurrence:
        recurrence = recurrence._replace(policy_and_value=policy_and_value)
    return ActorCritic(init, prepare, policy, value, update, recurrence, tuple(shared))


def _reader(module: Any) -> Callable[[Obs, Sequence[str]], Any]:
    """Returns how observation groups become what a module reads."""
    if getattr(module, "sees_images", False):
        return split_images
    apart = getattr(module, "encoded_groups", ())
    return partial(split_vectors, apart) if apart else concatenate


def _without_shared(params: Params, shared: Sequence[str]) -> Params:
    """Returns the critic's parameters without those that it takes from the actor.

    Raises:
      ValueError: one of them has not what the other has.
    """
    theirs, own = (
        {name: jax.tree.map(jnp.shape, params[model].get(name)) for name in shared}
        for model in ("actor", "critic")
    )
    if theirs != own:
        raise ValueError(
            f"the encoders of the actor are {shown(theirs)}, those of the critic "
            f"{shown(own)}: to share them, both have to see the same groups"
        )
    return {name: x for name, x in params["critic"].items() if name not in shared}


def _normalized(stats: RunningStats | tuple[()], x: Any) -> Any:
    """Returns what a model reads, by its statistics if it has any."""
    if not isinstance(stats, RunningStats):
        return x
    return with_vector(x, normalize(stats, vector_of(x)))


def _updated(
    stats: RunningStats | tuple[()], x: Any, axis: Axis
) -> RunningStats | tuple[()]:
    if not isinstance(stats, RunningStats):
        return ()
    return update_stats(stats, vector_of(x), axis)
