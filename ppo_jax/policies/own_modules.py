"""Modules of one's own, named by `class_name`: what they must return, checked early."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax

from ppo_jax.policies.models import ModelConfig, is_own_class
from ppo_jax.types import ActionSpace, ActorCritic, Continuous, Key, Obs, Params


def init_checked(
    network: ActorCritic,
    models: Mapping[str, ModelConfig],
    action_space: ActionSpace,
    key: Key,
    obs: Obs,
) -> tuple[Params, Any]:
    """Returns what `network.init` does, of modules that return what they must.

    Raises:
      ValueError: one of them does not, or raises something itself; names its class.
    """
    own = [x.class_name for x in models.values() if is_own_class(x.class_name)]
    try:
        params, obs_stats = network.init(key, obs)
    except Exception as error:  # whatever somebody's own code raises
        raise ValueError(
            f"class_name = {own[0]!r} cannot read what the environments observe "
            f"({_reason(error)})"
        ) from error
    check_outputs(network, models, action_space, params, obs_stats, obs)
    return params, obs_stats


def _reason(error: Exception) -> str:
    """Returns what an error says, in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def check_outputs(
    network: ActorCritic,
    models: Mapping[str, ModelConfig],
    action_space: ActionSpace,
    params: Params,
    obs_stats: Any,
    obs: Obs,
) -> None:
    """Checks a policy and a value of [N, ...] observations; computes nothing.

    Raises:
      ValueError: a model returns another shape than it must; names its class.
    """
    num_envs = len(jax.tree.leaves(obs)[0])
    action = (num_envs,)
    if isinstance(action_space, Continuous):
        action += (action_space.dim,)

    wanted = dict.fromkeys(("log_prob(action)", "entropy()"), (num_envs,))
    wanted |= {"kl_divergence(itself)": (num_envs,), "value": (num_envs,)}
    wanted |= {"mode()": action, "sample(key)": action}
    inputs = network.prepare(obs_stats, obs)
    for name, look in (("actor", _policy_of), ("critic", _value_of)):
        field = f"{name}.class_name = {models[name].class_name!r}"
        try:
            found = jax.eval_shape(partial(look, network, params, inputs, obs))
        except Exception as error:  # whatever somebody's own code raises
            raise ValueError(
                f"{field} cannot act on observations of {num_envs} environments "
                f"({_reason(error)}): an actor returns a distribution as "
                "types.Distribution describes it, a critic one number for each "
                "environment"
            ) from error
        for what, x in found.items():
            if what in wanted and x.shape != wanted[what]:
                raise ValueError(
                    f"{field} gives a {what} of the shape {list(x.shape)} for "
                    f"{num_envs} environments: it is to be {list(wanted[what])}"
                )


def _policy_of(
    network: ActorCritic, params: Params, inputs: Any, obs: Obs
) -> dict[str, Any]:
    """Returns what is asked of an actor's distribution."""
    if network.recurrence:
        carry = network.recurrence.initial(obs)
        distribution = network.recurrence.step(params, inputs, carry)[0]
    else:
        distribution = network.policy(params, inputs)
    chosen = distribution.mode()
    return {
        "mode()": chosen,
        "sample(key)": distribution.sample(jax.random.key(0)),
        "spread()": distribution.spread(),
        "log_prob(action)": distribution.log_prob(chosen),
        "entropy()": distribution.entropy(),
        "kl_divergence(itself)": distribution.kl_divergence(distribution),
    }


def _value_of(
    network: ActorCritic, params: Params, inputs: Any, obs: Obs
) -> dict[str, Any]:
    """Returns what is asked of a critic."""
    if network.recurrence:
        carry = network.recurrence.initial(obs)
        return {"value": network.recurrence.value(params, inputs, carry)}
    return {"value": network.value(params, inputs)}
