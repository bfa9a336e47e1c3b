"""The two drivers: an operation of a torch simulator, in a program or on the host."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental.buffer_callback import buffer_callback

from ppo_jax.envs.dlpack import Tensor, to_jax, to_torch
from ppo_jax.envs.torch_env import Result, TorchEnv, checked
from ppo_jax.types import Array

Operation = Callable[..., Any]  # (torch_env, *tensors) -> tree of tensors


# (env_state, lent result, *args) -> (env_state, array that tells its end, the rest)
Follow = Callable[..., tuple[Array, Any, Any]]


class Lent(NamedTuple):
    """Memory that torch writes and JAX reads; the bridge's own, and always the same."""

    tensors: list[Tensor]
    arrays: list[Array]


@dataclass(eq=False)
class Link:
    """A simulator, and what the host remembers between two calls of it."""

    torch_env: TorchEnv
    results: dict[Operation, Result]
    calls: int = 0  # of the simulator, so far
    seconds: float = 0.0  # spent in them since they were last asked for
    error: BaseException | None = None  # that the last callback raised
    lent: dict[Operation, Lent] = field(default_factory=dict)
    state: Array | None = None  # that the last call returned
    fence: Any = None  # ready when what is lent has been read
    counter: Tensor | None = None  # of calls, on a GPU
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
    a call whose result nobody reads, or merge two. Without the barrier XLA clones a
    call on CUDA whose result a scan stacks, and the simulator is stepped twice.
    """
    specs = (jax.ShapeDtypeStruct((), jnp.int32), link.results[operation].specs)
    callback = partial(_fill_buffers, link, operation)
    call = buffer_callback(callback, specs, has_side_effect=True)
    return jax.lax.optimization_barrier(call(env_state, *inputs))


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
            link.state = None  # the host has not seen it
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
    env_state, _, result = follow_on_host(link, operation, _own, env_state, *inputs)
    return env_state, result


def follow_on_host(
    link: Link,
    operation: Operation,
    follow: Follow,
    env_state: Array | None,
    *inputs: Array,
    args: tuple[Any, ...] = (),
) -> tuple[Array, Any, Any]:
    """Runs an operation of the simulator now, and what follows as one program.

    Its tensors are copied to memory that the bridge keeps, which JAX has seen from the
    start: nothing is imported but, on a GPU, the number of the call, which comes when
    all that torch has written is there. In turn torch waits for the program to have
    read them before it writes there again.

    Args:
      link: the simulator.
      operation: on it.
      follow: a jitted function of (env_state, lent result, *args). It returns a new
        env_state, an array of the same program that tells when it has run (best the
        next action), and anything else. What it returns of the lent arrays it copies.
      env_state: the last one.
      *inputs: of the operation.
      args: of `follow`.
    """
    import torch

    if any(isinstance(x, Tracer) for x in (env_state, *inputs)):
        raise TypeError(
            "driver = 'host' cannot step inside jit: loop with scan=host_scan, or give "
            "driver = 'in_jit'"
        )
    result = link.results[operation]
    with torch.no_grad():
        if link.fence is not None and not any(x is link.fence for x in inputs):
            to_torch(link.fence)  # the last reads come before the next writes
        if env_state is not None and env_state is not link.state:
            _require_last_state(link, to_torch(env_state))
        exported = [to_torch(x) for x in inputs]
        tensors = _operate(link, operation, *exported)
        lent = link.lent.get(operation)
        if lent is None:
            lent = link.lent[operation] = _lend(tensors)
        for mine, tensor in zip(lent.tensors, tensors, strict=True):
            mine.copy_(tensor)
        count = _count_of_calls(link)
    arrays = jax.tree.unflatten(result.treedef, lent.arrays)
    link.state, link.fence, rest = follow(count, arrays, *args)
    if getattr(jax.config, "jax_disable_jit"):  # noqa: B009  then many programs ran
        jax.block_until_ready((link.state, link.fence, rest))
    # Either allocator may reuse memory as soon as the host lets go of it, although the
    # device still has to read it.
    link.kept.append((inputs, exported, count))
    return link.state, link.fence, rest


@jax.jit
def _own(env_state: Any, lent: Any) -> tuple[Array, Array, Any]:
    """Copies all that is lent."""
    copied, copies = jax.tree.map(jnp.copy, (env_state, lent))
    return copied, jnp.zeros((), jnp.int32), copies


def _lend(tensors: list[Tensor]) -> Lent:
    """Returns memory for tensors of these shapes and types, seen from both sides."""
    import torch

    own = [torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in tensors]
    arrays = [to_jax(x) for x in own]
    for tensor, array in zip(own, arrays, strict=True):
        if array.size and array.unsafe_buffer_pointer() != tensor.data_ptr():
            raise RuntimeError(
                f"jax {jax.__version__} has copied a tensor that was to be shared: "
                "give --bridge in_jit (driver = 'in_jit')"
            )
    return Lent(own, arrays)


def _count_of_calls(link: Link) -> Any:
    """Returns the number of calls; on a GPU when all that torch was told is done.

    An array that torch writes again and again has one time at which it is ready: when
    it was imported. What is imported anew makes a program wait for the others as well.
    """
    if not str(link.torch_env.device).startswith("cuda"):
        return np.int32(link.calls)
    import torch

    device = link.torch_env.device
    counter = link.counter
    if counter is None:
        counter = link.counter = torch.zeros((), dtype=torch.int32, device=device)
    return to_jax(counter.fill_(link.calls))


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
