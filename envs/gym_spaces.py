"""Gymnasium's spaces: which actions a task takes, and its observations by group."""

from collections.abc import Iterator, Mapping
from typing import Any

from ppo_jax.envs.dlpack import Tensor
from ppo_jax.types import ActionSpace, Continuous, Discrete


def action_space(task: str, space: Any) -> ActionSpace:
    """Returns what a task takes.

    Raises:
      ValueError: the space is neither a vector Box nor a Discrete from 0.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return Continuous(space.shape[0])
    if isinstance(space, spaces.Discrete) and space.start == 0:
        return Discrete(int(space.n))
    raise ValueError(
        f"{task}: the action space {space} is not supported; a vector Box and a "
        "Discrete that starts at 0 are"
    )


def flatten_groups(obs: Mapping[str, Any], spaces: Any) -> Iterator[tuple[str, Tensor]]:
    """Yields ("group", tensor), or ("group/part", tensor) where a group has parts.

    Args:
      obs: {group: tensor, or nested parts of it}.
      spaces: the Dict of the groups' spaces; None: what is there is taken as it is, and
        Gymnasium need not be installed.
    """
    for name, value in obs.items():
        yield from _flatten(name, value, _part_of(spaces, name))


def _flatten(name: str, value: Any, space: Any) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors of a group; a category becomes its indicator vector."""
    if isinstance(value, Mapping | tuple | list):
        parts = value if isinstance(value, Mapping) else dict(enumerate(value))
        for key, part in parts.items():
            yield from _flatten(f"{name}/{key}", part, _part_of(space, key))
    else:
        yield name, _indicators(value, space)


def _part_of(space: Any, key: Any) -> Any:
    """Returns the space of a part, or None where the task does not declare it."""
    if space is None:
        return None
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return space.spaces.get(key)
    if isinstance(space, spaces.Tuple) and key < len(space):
        return space[key]
    return None


def _indicators(value: Tensor, space: Any) -> Tensor:
    """Returns float32 indicators of discrete observations, other values unchanged.

    The numbers of categories mean nothing as numbers. Discrete(n) [N] or [N, 1]
    becomes [N, n], MultiDiscrete [N, K] becomes [N, n_1 + ... + n_K].
    """
    if space is None:
        return value
    import torch
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        sizes, starts = [int(space.n)], [int(space.start)]
    elif isinstance(space, spaces.MultiDiscrete):
        sizes = [int(n) for n in space.nvec.reshape(-1)]
        starts = [int(n) for n in space.start.reshape(-1)]
    else:
        return value
    columns = value.reshape(len(value), len(sizes)).unbind(dim=1)
    indicators = [
        column[:, None] == torch.arange(start, start + size, device=value.device)
        for column, size, start in zip(columns, sizes, starts, strict=True)
    ]
    return torch.cat(indicators, dim=1).to(torch.float32)
