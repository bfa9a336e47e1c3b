"""The two drivers: an operation of a torch simulator, in a program or on the host."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental.buffer_callback import buffer_callback

from envs.dlpack import Tensor, to_jax, to_torch
from envs.torch_env import Result, TorchEnv, checked
from ppo_jax.types import Array

Operation = Callable[..., Any]  # (torch_env, *tensors) -> tree of tensors


@dataclass(eq=False)
class Link:
    """A simulator, and what the host remembers between two calls of it."""

    torch_env: TorchEnv
    results: dict[Operation, Result]
    calls: int = 0  # of the simulator, so far
    seconds: float = 0.0  # spent in them since they were last asked for
    error: BaseException | None = None  # that the last callback raised
    fence: Array | None = None  # ready when every copy of the last call is made
    kept: deque[Any] = field(default_factory=lambda: deque(maxlen=2))


@partial(jax.jit, static_argnames=("link", "operation"))
def call_in_jit(
    link: Link,
    operation: Operation,
    env_state: Array | None,
    *inputs: Array,
) -> tuple[Array, Any]:
    """Runs an operation of the simulator as part of the program that is traced.

    The jit is for calls from outside of one. Without `has_side_effect` XLA may drop
    a call whose result nobody reads, or merge two.
    """
    specs = (jax.ShapeDtypeStruct((), jnp.int32), link.results[operation].specs)
    callback = partial(_fill_buffers, link, operation)
    return buffer_callback(callback, specs, has_side_effect=True)(env_state, *inputs)


def _fill_buffers(
    link: Link,
    operation: Operation,
    context: Any,
    outputs: Any,
    env_state: Any,
    *inputs: Any,
) -> None:
    """Runs an operation inside a callback of XLA; no call of JAX may happen here.

    The buffers are lent until this returns. Their views die with it.
    """
    import torch

    try:
        with torch.no_grad(), _ordered_streams(context, link.torch_env.device):
            if env_state is not None:
                _require_last_state(link, torch.from_dlpack(env_state))
            tensors = _operate(link, operation, *map(torch.from_dlpack, inputs))
            state_buffer, buffers = outputs
            torch.from_dlpack(state_buffer).fill_(link.calls)
            for buffer, tensor in zip(jax.tree.leaves(buffers), tensors, strict=True):
                torch.from_dlpack(buffer).copy_(tensor)
    except BaseException as error:
        link.error = error
        raise


@contextmanager
def _ordered_streams(context: Any, device: Any) -> Iterator[None]:
    """Orders the simulator's stream with XLA's by events; the host waits for neither.

    The simulator stays on its own stream: Warp and PhysX are ordered with that one.
    """
    if not str(device).startswith("cuda"):
        yield
        return
    import torch

    xla = torch.cuda.ExternalStream(context.stream, device=device)
    simulator = torch.cuda.current_stream(device)
    simulator.wait_stream(xla)
    yield
    xla.wait_stream(simulator)


def call_on_host(
    link: Link,
    operation: Operation,
    env_state: Array | None,
    *inputs: Array,
) -> tuple[Array, Any]:
    """Runs an operation of the simulator now, and copies what it returns."""
    import torch

    if any(isinstance(x, Tracer) for x in (env_state, *inputs)):
        raise TypeError(
            "driver = 'host' cannot step inside jit: loop with scan=host_scan, or give "
            "driver = 'in_jit'"
        )
    with torch.no_grad():
        if link.fence is not None:
            to_torch(link.fence)  # the last copies come before the next writes
        if env_state is not None:
            _require_last_state(link, to_torch(env_state))
        exported = [to_torch(x) for x in inputs]
        tensors = _operate(link, operation, *exported)
    views = [to_jax(tensor) for tensor in tensors]
    count = np.int32(link.calls)
    next_state, arrays, link.fence = _own(count, views)
    # Either allocator may reuse memory as soon as the host lets go of it, although the
    # device still has to read it.
    link.kept.append((inputs, exported, tensors, views))
    return next_state, jax.tree.unflatten(link.results[operation].treedef, arrays)


@jax.jit
def _own(env_state: Any, views: list[Array]) -> tuple[Array, list[Array], Array]:
    """Copies all views at once; the last output is for waiting, it stays in here."""
    return env_state, jax.tree.map(jnp.copy, views), jnp.zeros((), jnp.int32)


def _operate(link: Link, operation: Operation, *inputs: Tensor) -> list[Tensor]:
    """Runs an operation and counts it; returns the tensors as the specs have them."""
    started = time.perf_counter()
    tensors = operation(link.torch_env, *inputs)
    link.seconds += time.perf_counter() - started
    link.calls += 1
    return checked(link.results[operation], tensors)


def _require_last_state(link: Link, env_state: Tensor) -> None:
    """Raises if a state is not the last one; on a GPU reading it would block."""
    if env_state.device.type != "cpu" or int(env_state) == link.calls:
        return
    raise ValueError(
        f"env_state is that of call {int(env_state)}, but the simulator has done "
        f"{link.calls} and cannot go back: pass on the state that the last "
        "call returned, or reset"
    )
