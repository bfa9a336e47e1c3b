"""What a torch simulator has to offer, and a check of every tensor that it returns."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax

from ppo_jax.envs.dlpack import DTYPES, Tensor, spec_of
from ppo_jax.types import Described, TimeStep

# by result: of which types the value is the same in the type that it has to be
SMALL = {f"torch.{name}" for name in ("float16", "bfloat16", "uint8", "int8", "int16")}
FLAGS = {*SMALL, "torch.int32", "torch.int64", "torch.float32", "torch.float64"}
EXACT = {"reward": {*SMALL, "torch.bool"}, "terminated": FLAGS, "truncated": FLAGS}


class TorchEnv(Described, Protocol):
    """N auto-resetting environments in torch.

    `info`, `device`, `has_final_obs`, `reset`, `step` and `set_episode_length` are what
    it has to have; who inherits has the rest. docs/simulators.md builds one.

    The tensors that it returns may be the buffers that its next step writes. The
    action that it gets is its own: it may keep it, or write to it.
    """

    device: Any  # the torch.device of every tensor
    has_final_obs: bool  # whether `step` gives the observation before the auto-reset

    def reset(self, seed: int) -> dict[str, Tensor]:
        """Starts every environment anew; returns {group: [N, ...]}."""
        ...

    def step(self, action: Tensor) -> TimeStep:
        """Steps every environment; returns a `TimeStep` of tensors without log.

        The reward is float32, or what is exact in it; a flag that is a number is set
        unless it is 0.
        """
        ...

    def set_episode_length(self, length: Tensor) -> None:
        """Sets how many steps of each episode count as taken, [N] int32."""
        ...

    def drain_log(self) -> dict[str, float]:
        """Returns what was logged since the last call, and forgets it."""
        return {}

    def save_config(self, path: Path) -> None:
        """Writes the simulator's configuration as YAML; here, its few facts."""
        import yaml

        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({"environments": repr(self.info)}))

    def deployment(self, groups: Sequence[str]) -> dict[str, str]:
        """Returns what a robot must know to act as here; may be left out.

        It goes into the metadata of an exported policy, under mjlab's keys where there
        is one (`joint_names`, `joint_stiffness`, `joint_damping`, `default_joint_pos`,
        `command_names`, `observation_names`, `action_scale`, ...), each value one line
        of text, from `ppo_jax.envs.deployment.joined`. What is not known is not there.

        Args:
          groups: the observation groups that the actor reads, in order.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run must put back; may be left out.

        Plain values, as JSON has them, and not the state of any episode: those start
        anew. For instance the number of steps by which curricula choose their stage.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` returned, from the next `reset` on."""

    def close(self) -> None:
        """Ends the simulator; twice does nothing."""


class Result(NamedTuple):
    """What an operation returns; made once, since it is compared in every step."""

    specs: Any  # tree of jax.ShapeDtypeStruct
    treedef: Any
    names: list[str]  # of the leaves, as are the following
    shapes: list[tuple[int, ...]]
    dtypes: list[Any]  # of torch


def result_of(specs: Any, prefix: str = "") -> Result:
    """Returns what an operation returns, from its shapes and types."""
    import torch

    paths, treedef = jax.tree_util.tree_flatten_with_path(specs)
    leaves = [spec for _, spec in paths]
    return Result(
        specs,
        treedef,
        names=[prefix + _name(path) for path, _ in paths],
        shapes=[spec.shape for spec in leaves],
        dtypes=[getattr(torch, spec.dtype.name) for spec in leaves],
    )


def checked(result: Result, tree: Any) -> list[Any]:
    """Returns the tensors of a tree in the order of the specs, and of their types.

    Only a reward and the flags are cast, and only where nothing is lost.

    Raises:
      ValueError: a tensor or group is missing, is one too many, or has another shape.
      TypeError: a tensor has another type than before, or one that JAX would convert.
    """
    tensors, treedef = jax.tree.flatten(tree)
    if treedef != result.treedef:
        found = [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
        raise ValueError(
            f"the simulator returned {', '.join(found)}; at first it was "
            f"{', '.join(result.names)}"
        )
    rows = zip(result.names, tensors, result.shapes, result.dtypes, strict=True)
    for index, (name, tensor, shape, dtype) in enumerate(rows):
        found = getattr(tensor, "dtype", None)
        if found != dtype and str(found) in EXACT.get(name, ()):
            tensors[index] = tensor = tensor.to(dtype)
        if getattr(tensor, "dtype", None) != dtype:
            found = spec_of(name, tensor).dtype
            expected = DTYPES[str(dtype)]
            raise TypeError(f"{name} is {found}, but {expected} was expected")
        if tensor.shape != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not {shape}")
    return tensors


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path).lstrip(".")
