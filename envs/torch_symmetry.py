"""A symmetry that is written in torch, as the linear map in JAX that it is.

rsl_rl's functions of (env, obs, actions) map each row by itself, and linearly: left and
right are exchanged, and some signs with them. What they do to the unit vectors is then
what they do. That is tried on random rows, and whatever is otherwise is refused.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ppo_jax.types import Array, AugmentFn, Obs

NUM_TRIED = 16  # random rows
TOLERANCE = 1e-5  # relative to the largest number in a row
SIZES = (1.0, 1e3)  # of their numbers: what is clipped shows
MAX_WIDTH = 4096  # numbers in a group of observations

AugmentTorch = Callable[..., tuple[Any, Any]]  # (env, obs, actions) -> both, K times


class Map(NamedTuple):
    """K - 1 linear maps of rows [D]; each output is one input with a sign, or a sum."""

    source: np.ndarray  # [K - 1, D] which input
    sign: np.ndarray  # [K - 1, D]
    matrix: np.ndarray | None  # [K - 1, D, D], inputs to outputs, where those are sums


def recover(
    augment: AugmentTorch,
    env: Any,
    shapes: Mapping[str, tuple[int, ...]],
    num_actions: int,
    device: Any = "cpu",
) -> AugmentFn:
    """Returns a symmetry in torch as a function in JAX, see `types.AugmentFn`.

    Args:
      augment: rsl_rl's `data_augmentation_func`.
      env: what it asks for names of joints and the like.
      shapes: {group: (D,)} of the observations of one environment.
      num_actions: A.
      device: where `augment` is called.

    Raises:
      ValueError: it is not linear, not of each row and group by itself, or its first
        block is not the rows as they were.
    """
    for group, shape in shapes.items():
        if len(shape) != 1 or shape[0] > MAX_WIDTH:
            raise _no(f"the group {group!r} is {list(shape)} in each environment")
    call = _Call(augment, env, dict(shapes), num_actions, device)
    widths = {name: shape[0] for name, shape in shapes.items()}
    of_obs = {group: _map_of(call, group, width) for group, width in widths.items()}
    of_action = _map_of(call, None, num_actions)
    _try(call, of_obs, of_action)

    def linear(obs: Obs | None, action: Array | None) -> Any:
        mapped = obs and {name: _apply(of_obs[name], x) for name, x in obs.items()}
        return mapped, None if action is None else _apply(of_action, action)

    return linear


class _Call(NamedTuple):
    """An augmentation in torch that takes and returns NumPy."""

    augment: AugmentTorch
    env: Any
    shapes: dict[str, tuple[int, ...]]
    num_actions: int
    device: Any

    def __call__(
        self, obs: Mapping[str, np.ndarray] | None, action: np.ndarray | None
    ) -> tuple[dict[str, np.ndarray] | None, np.ndarray | None]:
        """Returns K blocks of what is given; None of what is not."""
        import torch
        from tensordict import TensorDict

        def tensor(x: np.ndarray) -> Any:
            return torch.tensor(x, dtype=torch.float32, device=self.device)

        given = None
        if obs is not None:
            tensors = {name: tensor(x) for name, x in obs.items()}
            size = len(next(iter(tensors.values())))
            given = TensorDict(tensors, batch_size=[size], device=self.device)
        actions = None if action is None else tensor(action)
        with torch.no_grad():
            mapped, mirrored = self.augment(self.env, given, actions)
        back = lambda x: x.detach().cpu().double().numpy()
        return (
            None if obs is None else {name: back(mapped[name]) for name in obs},
            None if mirrored is None else back(mirrored),
        )

    def of_group(self, group: str | None, rows: np.ndarray) -> np.ndarray:
        """Returns [K, B, D] of rows [B, D] of a group, or of actions; others are 0."""
        if group is None:
            _, result = self(None, rows)
            return _blocks(result, rows)
        obs = {name: np.zeros((len(rows), *s)) for name, s in self.shapes.items()}
        result, _ = self(obs | {group: rows}, None)
        assert result is not None
        for name, x in result.items():
            if name != group and np.any(x):
                raise _no(f"{group!r} has a part in {name!r}")
        return _blocks(result[group], rows)


def _map_of(call: _Call, group: str | None, width: int) -> Map:
    """Returns what an augmentation does to a group, from what it does to unit rows."""
    name = "the action" if group is None else repr(group)
    if np.any(call.of_group(group, np.zeros((2, width)))):
        raise _no(f"{name} of zeros is not zeros")
    images = call.of_group(group, np.eye(width))  # [K, input, output]
    if not np.array_equal(images[0], np.eye(width)):
        raise _no(f"the first block of {name} is not the rows as they were")
    matrix = images[1:].astype(np.float32)
    source = np.abs(matrix).argmax(axis=1)
    sign = np.take_along_axis(matrix, source[:, None], axis=1)[:, 0]
    if (np.count_nonzero(matrix, axis=1) <= 1).all():
        return Map(source, sign, None)
    return Map(source, sign, matrix)


def _try(call: _Call, of_obs: Mapping[str, Map], of_action: Map) -> None:
    """Compares with the function itself, all groups and actions together."""
    rng = np.random.default_rng(0)
    for size in SIZES:
        draw = lambda width: size * rng.normal(size=(NUM_TRIED, width))  # noqa: B023
        obs = {name: draw(*call.shapes[name]) for name in of_obs}
        action = draw(call.num_actions)
        mapped, mirrored = call(obs, action)
        assert mapped is not None
        pairs = [(f"{n!r}", of_obs[n], obs[n], mapped[n]) for n in of_obs]
        for name, linear, rows, theirs in [
            *pairs,
            ("the action", of_action, action, mirrored),
        ]:
            rows = rows.astype(np.float32)
            ours = np.asarray(_apply(linear, jnp.asarray(rows)))
            error = np.abs(ours - _blocks(theirs, rows).reshape(ours.shape)).max()
            if not error <= TOLERANCE * np.abs(rows).max():
                raise _no(f"{name} is not mapped linearly, row by row")


def _blocks(x: Any, rows: np.ndarray) -> np.ndarray:
    """Returns [K, B, D]; raises ValueError where rows came back in another shape."""
    if x is None or len(x) % len(rows) or x.shape[1:] != rows.shape[1:]:
        raise _no("rows came back in another shape than K blocks of them")
    return x.reshape(-1, *rows.shape)


def _apply(linear: Map, x: Array) -> Array:
    """Returns [K * B, D] of [B, D]: the rows as they were, then each copy."""
    if linear.matrix is not None:
        copies = jnp.einsum("bi,kio->kbo", x, linear.matrix, precision="highest")
    else:
        copies = x[:, linear.source].swapaxes(0, 1) * linear.sign[:, None]
    return jnp.concatenate([x[None], copies]).reshape(-1, x.shape[-1])


def _no(why: str) -> ValueError:
    return ValueError(
        "data_augmentation_func is in torch and cannot be taken over as a linear map: "
        f"{why}; give a function in JAX"
    )
