"""Tensors as arrays and back without a copy, and JAX on the simulator's device."""

import os
import warnings
from typing import Any

import jax
import jax.numpy as jnp

from ppo_jax.types import Array

Tensor = Any  # torch.Tensor; torch is imported only where it is used

DTYPES = {
    "torch.float32": "float32",
    "torch.float16": "float16",
    "torch.bfloat16": "bfloat16",
    "torch.bool": "bool",
    "torch.uint8": "uint8",
    "torch.int8": "int8",
    "torch.int16": "int16",
    "torch.int32": "int32",
}

MEMORY_SETTINGS = (
    "XLA_PYTHON_CLIENT_PREALLOCATE",
    "XLA_PYTHON_CLIENT_ALLOCATOR",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "XLA_CLIENT_MEM_FRACTION",
)


def to_jax(tensor: Tensor) -> Array:
    """Returns a view of a tensor's memory as an array, without a copy.

    Only a jitted call may read it, whose result torch waits for before it writes
    there again. A strided tensor is made contiguous first, which is a copy. Not
    `copy=True`: on a CPU it still returns the same memory.
    """
    return jax.dlpack.from_dlpack(tensor.detach().contiguous())


def to_torch(array: Array) -> Tensor:
    """Returns a view of an array's memory as a tensor; torch waits until it is ready.

    Never write to it, and never donate the array while the view is held: JAX would
    copy on a CPU without saying so, and fail on a GPU.
    """
    import torch

    return torch.from_dlpack(array)


def spec_of(name: str, tensor: Tensor) -> Any:
    """Returns shape and type of a tensor as JAX will see them.

    Raises:
      TypeError: JAX would convert the type or cannot hold it.
    """
    dtype = DTYPES.get(str(getattr(tensor, "dtype", None)))
    if dtype is None:
        kind = getattr(tensor, "dtype", type(tensor).__name__)
        raise TypeError(
            f"{name} is {kind}, which JAX would convert or cannot hold: return one of "
            f"{', '.join(DTYPES)}"
        )
    return jax.ShapeDtypeStruct(tuple(tensor.shape), jnp.dtype(dtype))


def prepare_jax(device: str) -> None:
    """Puts JAX on the simulator's device, with room for the simulator.

    JAX reads both settings when its backend starts, so this comes before the first
    array. On a GPU it would otherwise take 75 % of the memory. What the user has set
    in the environment stays.

    Args:
      device: of the simulator, "cpu" or "cuda:0".
    """
    is_cpu = not device.startswith("cuda")
    if is_cpu and "JAX_PLATFORMS" not in os.environ and not _backend_has_started():
        jax.config.update("jax_platforms", "cpu")
    if is_cpu or any(name in os.environ for name in MEMORY_SETTINGS):
        return
    if _backend_has_started():
        warnings.warn(
            "JAX has already started and may hold 75 % of the GPU's memory, which the "
            "simulator then lacks: make the environment before the first JAX array, or "
            "set XLA_PYTHON_CLIENT_PREALLOCATE=false",
            RuntimeWarning,
            stacklevel=2,
        )
        return
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"


def require_device(device: str) -> None:
    """Raises ValueError unless torch sees a device."""
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"device = {device!r}, but torch sees no CUDA device: give device = 'cpu'"
        )


def require_same_device(device: Any) -> None:
    """Raises ValueError unless JAX's default backend is on a torch device."""
    simulator = str(device).partition(":")[0]
    ours = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
    if simulator == ours:
        return
    fix = (
        "set JAX_PLATFORMS=cpu, or move the simulator"
        if simulator == "cpu"
        else "install jax[cuda13], or give device = 'cpu'"
    )
    raise ValueError(f"the simulator is on {device}, but JAX is on {ours}: {fix}")


def _backend_has_started() -> bool:
    from jax._src import xla_bridge  # there is no public way to ask without starting it

    return xla_bridge.backends_are_initialized()
