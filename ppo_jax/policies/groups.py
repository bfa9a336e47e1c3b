"""Which observation groups a model reads, and how they become one input."""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

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


class Seen(NamedTuple):
    """What a network reads that has encoders, of images or of single groups."""

    vector: Array  # [..., D] the groups of vectors, concatenated; D may be 0
    # {group: [..., C, H, W]}, or vectors with encoders; JAX would sort another dict
    images: OrderedDict[str, Array]


def split_images(obs: Obs, groups: Sequence[str]) -> Seen:
    """Returns vectors and images apart; leading axes are [N], or [T, N]."""
    images = OrderedDict((name, obs[name]) for name in groups if obs[name].ndim >= 4)
    vectors = [name for name in groups if name not in images]
    if vectors:
        return Seen(concatenate(obs, vectors), images)
    leading = next(iter(images.values())).shape[:-3]
    return Seen(jnp.zeros((*leading, 0)), images)


def split_vectors(apart: Collection[str], obs: Obs, groups: Sequence[str]) -> Seen:
    """Returns vectors that an encoder reads apart from the others, [N] or [T, N]."""
    encoded = OrderedDict((name, obs[name]) for name in groups if name in apart)
    vectors = [name for name in groups if name not in apart]
    if vectors:
        return Seen(concatenate(obs, vectors), encoded)
    leading = next(iter(encoded.values())).shape[:-1]
    return Seen(jnp.zeros((*leading, 0)), encoded)


def vector_of(inputs: Any) -> Array:
    """Returns what statistics normalise of what a network reads: never an image."""
    return inputs.vector if isinstance(inputs, Seen) else inputs


def with_vector(inputs: Any, vector: Array) -> Any:
    """Returns what a network reads with another vector."""
    return inputs._replace(vector=vector) if isinstance(inputs, Seen) else vector


def require_vectors_and_images(obs: Obs, groups: Sequence[str]) -> None:
    """Raises ValueError where a group [N, ...] is neither, or none is an image."""
    shapes = {name: list(obs[name].shape[1:]) for name in groups}
    for name, shape in shapes.items():
        if len(shape) not in (1, 3):
            raise ValueError(
                f"the observation group {name!r} is {shape} in each environment, but "
                "a CNNModel reads vectors [D] and images [C, H, W]"
            )
    if all(len(shape) == 1 for shape in shapes.values()):
        raise ValueError(
            f"a CNNModel sees images, but {', '.join(groups)} are vectors: name a "
            "group [C, H, W] in obs_groups, or give class_name = 'MLPModel'"
        )


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
