"""Which observation groups a model reads, and how they become one input."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp

from ppo_jax.options import nearest
from ppo_jax.types import Array, Obs


def resolve_obs_groups(
    obs_groups: Mapping[str, Sequence[str]],
    available: Sequence[str] | Obs,
    models: Sequence[str] = ("actor", "critic"),
) -> dict[str, tuple[str, ...]]:
    """Returns the observation groups that each model reads, as rsl_rl chooses them.

    A model that is not configured reads the group of its own name where the
    environment has it, else "policy".

    Raises:
      ValueError: a configured list is empty, names a group that is not there or one
        twice, or there is neither a group of the model's name nor "policy".
    """
    unknown = set(obs_groups) - {*models, "rnd_state"}  # RND picks its own
    if unknown:
        name = sorted(unknown)[0]
        raise ValueError(f"obs_groups has no model {name!r}: {nearest(name, models)}")
    chosen = {}
    for model in models:
        default = model if model in available else "policy"
        groups = tuple(obs_groups.get(model, (default,)))
        missing = [group for group in groups if group not in available]
        if not groups or missing:
            what = f"the group {missing[0]!r}" if missing else "no group at all"
            raise ValueError(
                f"obs_groups[{model!r}] names {what}, but the environment observes "
                f"{', '.join(sorted(available))}: name one or more of these"
            )
        for group in groups:
            if groups.count(group) > 1:
                raise ValueError(
                    f"obs_groups[{model!r}] names {group!r} twice: leave one away"
                )
        chosen[model] = groups
    return chosen


def concatenate(obs: Obs, groups: Sequence[str]) -> Array:
    """Returns the groups in the order given as one observation, [..., D]."""
    if len(groups) == 1:
        return obs[groups[0]]
    return jnp.concatenate([obs[group] for group in groups], axis=-1)


def require_vectors(obs: Obs, groups: Sequence[str]) -> None:
    """Raises ValueError, with its name, where a group [N, ...] is no vector of numbers.

    Layers act on the last axis: an image would become a picture of values.
    """
    for name in groups:
        shape, dtype = list(obs[name].shape[1:]), obs[name].dtype
        if len(shape) != 1 or jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(
                f"the observation group {name!r} is {dtype} {shape} in each "
                "environment, but a multilayer perceptron reads vectors [D]: flatten "
                "it where it is observed, or name other groups in obs_groups"
            )
