"""The bridge to a torch simulator: who owns a buffer, and in which order it is used.

`bridge(torch_env, driver)` returns an `Env`. Two drivers run the same operations:

* "in_jit": XLA calls the simulator from inside a jitted program, which hands over its
  own buffers to be filled in place. `step` can be traced, so that a whole iteration,
  or a whole training, is one program.
* "host": a Python loop (`host_scan`). The simulator's tensors are seen through DLPack
  and copied by one jitted call per step, before the simulator can write them again.

Both give the same numbers. Neither converts a type; what JAX would convert without
saying so is refused.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental.buffer_callback import buffer_callback

from envs.dlpack import (
    DTYPES,
    Tensor,
    require_same_device,
    spec_of,
    to_jax,
    to_torch,
)
from ppo_jax.types import ActionSpace, Array, Key, Obs, TimeStep

DRIVERS = ("in_jit", "host")


class TorchEnv(Protocol):
    """N auto-resetting environments in torch.

    The tensors that it returns may be the buffers that its next step writes. The
    action that it gets is its own: it may keep it, or write to it.
    """

    @property
    def num_envs(self) -> int:
        """N."""
        ...

    @property
    def action_space(self) -> ActionSpace:
        """What `step` takes per environment."""
        ...

    @property
    def max_episode_length(self) -> int:
        """Steps after which an episode is truncated."""
        ...

    @property
    def step_dt(self) -> float:
        """Duration of one step, in s."""
        ...

    @property
    def device(self) -> Any:
        """The torch.device of every tensor."""
        ...

    @property
    def has_final_obs(self) -> bool:
        """Whether `step` gives the observation before the auto-reset."""
        ...

    def reset(self, seed: int) -> dict[str, Tensor]:
        """Starts every environment anew; returns {group: [N, ...]}."""
        ...

    def step(self, action: Tensor) -> TimeStep:
        """Steps every environment; returns a `TimeStep` of tensors without log."""
        ...

    def set_episode_length(self, length: Tensor) -> None:
        """Sets how many steps of each episode count as taken, [N] int32."""
        ...

    def drain_log(self) -> dict[str, float]:
        """Returns what was logged since the last call, and forgets it."""
        ...

    def save_config(self, path: Path) -> None:
        """Writes the simulator's configuration as YAML."""
        ...

    def close(self) -> None:
        """Ends the simulator."""
        ...


class _Result(NamedTuple):
    """What an operation returns; made once, since it is compared in every step."""

    specs: Any  # tree of jax.ShapeDtypeStruct
    treedef: Any
    names: list[str]  # of the leaves, as are the following
    shapes: list[tuple[int, ...]]
    dtypes: list[Any]  # of torch


@dataclass
class _HostSide:
    """What the host remembers between two calls."""

    calls: int = 0  # of the simulator, so far
    seconds: float = 0.0  # spent in them since `drain_log`
    error: BaseException | None = None  # that the last callback raised
    fence: Array | None = None  # ready when every copy of the last call is made
    kept: deque[Any] = field(default_factory=lambda: deque(maxlen=2))


@dataclass(frozen=True, eq=False)
class BridgedEnv:
    """A torch simulator as an `Env`; made by `bridge`.

    There is one simulator and it cannot go back, so `env_state` holds no state: it is
    the number of calls so far, [] int32. Passing it from call to call orders them
    inside a jitted program; on the CPU a state that is not the last one is refused.
    """

    torch_env: TorchEnv
    driver: str
    results: dict[Any, _Result]  # by operation
    host_side: _HostSide

    @property
    def num_envs(self) -> int:
        """N."""
        return self.torch_env.num_envs

    @property
    def action_space(self) -> ActionSpace:
        """What `step` takes per environment."""
        return self.torch_env.action_space

    @property
    def max_episode_length(self) -> int:
        """Steps after which an episode is truncated."""
        return self.torch_env.max_episode_length

    @property
    def step_dt(self) -> float:
        """Duration of one step, in s."""
        return self.torch_env.step_dt

    @property
    def is_traceable(self) -> bool:
        """Whether `reset` and `step` can run inside jit."""
        return self.driver == "in_jit"

    def traceable(self) -> "BridgedEnv":
        """Returns the same environments with the driver that can be traced."""
        return replace(self, driver="in_jit")

    def reset(self, key: Key) -> tuple[Array, Obs]:
        """Starts every environment anew, with a seed drawn from the key."""
        seed = jax.random.randint(key, (), 0, np.iinfo(np.int32).max, jnp.int32)
        return self._call(_reset, None, seed)

    def step(self, env_state: Array, action: Array) -> tuple[Array, TimeStep]:
        """Steps every environment; those that end start anew in the same step.

        The arrays belong to the caller: no later step changes them.
        """
        return self._call(_step, env_state, action)

    def randomize_episode_length(self, env_state: Array, key: Key) -> Array:
        """Draws how many steps of each episode count as taken, uniformly."""
        shape = (self.num_envs,)
        length = jax.random.randint(key, shape, 0, self.max_episode_length, jnp.int32)
        return self._call(_set_episode_length, env_state, length)[0]

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Re-raises what the simulator raised in a jitted program, traceback and all.

        XLA passes on only the text of an exception. Put this around the jitted call
        and whatever waits for its result:

            with env.errors():
                run, metrics = jax.device_get(step(run, hparams))
        """
        try:
            yield
        except jax.errors.JaxRuntimeError:
            error, self.host_side.error = self.host_side.error, None
            if error is None:
                raise
            raise error from None

    def drain_log(self) -> dict[str, float]:
        """Returns what the simulator logged since the last call, and forgets it.

        With it "Perf/simulation_time", the seconds that the host spent in its calls.
        """
        seconds, self.host_side.seconds = self.host_side.seconds, 0.0
        return self.torch_env.drain_log() | {"Perf/simulation_time": seconds}

    def save_config(self, path: Path) -> None:
        """Writes the simulator's configuration as YAML."""
        self.torch_env.save_config(path)

    def close(self) -> None:
        """Lets go of the simulator's buffers and ends it."""
        self.host_side.kept.clear()
        self.host_side.fence = None
        self.torch_env.close()

    def _call(self, operation: Any, env_state: Array | None, *inputs: Array) -> Any:
        if self.driver == "in_jit":
            return _call_in_jit(self, operation, env_state, *inputs)
        return _call_on_host(self, operation, env_state, *inputs)


def bridge(torch_env: TorchEnv, driver: str = "in_jit") -> BridgedEnv:
    """Returns a torch simulator as an `Env`; resets it once, to see its shapes.

    Args:
      torch_env: the simulator.
      driver: "in_jit" or "host", see the top of this module.

    Raises:
      ValueError: there is no such driver, or JAX is not on the simulator's device.
      TypeError: an observation has a type that JAX would convert; names it.
    """
    if driver not in DRIVERS:
        raise ValueError(f"driver = {driver!r} is not one of {', '.join(DRIVERS)}")
    require_same_device(torch_env.device)
    obs = {name: spec_of(f"obs[{name!r}]", x) for name, x in torch_env.reset(0).items()}
    done = jax.ShapeDtypeStruct((torch_env.num_envs,), jnp.bool_)
    specs = TimeStep(
        obs=obs,
        reward=jax.ShapeDtypeStruct((torch_env.num_envs,), jnp.float32),  # type: ignore[arg-type]
        terminated=done,  # type: ignore[arg-type]
        truncated=done,  # type: ignore[arg-type]
        final_obs=obs if torch_env.has_final_obs else None,
        log={},
    )
    results = {
        _reset: _result(obs, prefix="obs"),
        _step: _result(specs),
        _set_episode_length: _result(()),
    }
    return BridgedEnv(torch_env, driver, results, _HostSide())


def _reset(env: BridgedEnv, seed: Tensor) -> Any:
    return env.torch_env.reset(int(seed))


def _step(env: BridgedEnv, action: Tensor) -> Any:
    return env.torch_env.step(action.clone())  # the buffer is only lent


def _set_episode_length(env: BridgedEnv, length: Tensor) -> Any:
    env.torch_env.set_episode_length(length.clone())
    return ()


def _result(specs: Any, prefix: str = "") -> _Result:
    import torch

    paths, treedef = jax.tree_util.tree_flatten_with_path(specs)
    leaves = [spec for _, spec in paths]
    return _Result(
        specs,
        treedef,
        names=[prefix + _name(path) for path, _ in paths],
        shapes=[spec.shape for spec in leaves],
        dtypes=[getattr(torch, spec.dtype.name) for spec in leaves],
    )


@partial(jax.jit, static_argnames=("env", "operation"))
def _call_in_jit(
    env: BridgedEnv,
    operation: Callable[..., Any],
    env_state: Array | None,
    *inputs: Array,
) -> tuple[Array, Any]:
    """Runs an operation of the simulator as part of the program that is traced.

    The jit is for calls from outside of one. Without `has_side_effect` XLA may drop
    a call whose result nobody reads, or merge two.
    """
    specs = (jax.ShapeDtypeStruct((), jnp.int32), env.results[operation].specs)
    callback = partial(_fill_buffers, env, operation)
    return buffer_callback(callback, specs, has_side_effect=True)(env_state, *inputs)


def _fill_buffers(
    env: BridgedEnv,
    operation: Callable[..., Any],
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
        with torch.no_grad(), _ordered_streams(context, env.torch_env.device):
            if env_state is not None:
                _require_last_state(env, torch.from_dlpack(env_state))
            tensors = _operate(env, operation, *map(torch.from_dlpack, inputs))
            state_buffer, buffers = outputs
            torch.from_dlpack(state_buffer).fill_(env.host_side.calls)
            for buffer, tensor in zip(jax.tree.leaves(buffers), tensors, strict=True):
                torch.from_dlpack(buffer).copy_(tensor)
    except BaseException as error:
        env.host_side.error = error
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


def _call_on_host(
    env: BridgedEnv,
    operation: Callable[..., Any],
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
    host_side = env.host_side
    with torch.no_grad():
        if host_side.fence is not None:
            to_torch(host_side.fence)  # the last copies come before the next writes
        if env_state is not None:
            _require_last_state(env, to_torch(env_state))
        exported = [to_torch(x) for x in inputs]
        tensors = _operate(env, operation, *exported)
    views = [to_jax(tensor) for tensor in tensors]
    count = np.int32(host_side.calls)
    next_state, arrays, host_side.fence = _own(count, views)
    # Either allocator may reuse memory as soon as the host lets go of it, although the
    # device still has to read it.
    host_side.kept.append((inputs, exported, tensors, views))
    return next_state, jax.tree.unflatten(env.results[operation].treedef, arrays)


@jax.jit
def _own(env_state: Any, views: list[Array]) -> tuple[Array, list[Array], Array]:
    """Copies all views at once; the last output is for waiting, it stays in here."""
    return env_state, jax.tree.map(jnp.copy, views), jnp.zeros((), jnp.int32)


def _operate(
    env: BridgedEnv, operation: Callable[..., Any], *inputs: Tensor
) -> list[Tensor]:
    """Runs an operation and counts it; returns the tensors as the specs have them."""
    started = time.perf_counter()
    tensors = operation(env, *inputs)
    env.host_side.seconds += time.perf_counter() - started
    env.host_side.calls += 1
    return _checked(env.results[operation], tensors)


def _checked(result: _Result, tree: Any) -> list[Any]:
    """Returns the tensors of a tree in the order of the specs.

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
    for name, tensor, shape, dtype in rows:
        if getattr(tensor, "dtype", None) != dtype:
            found = spec_of(name, tensor).dtype
            expected = DTYPES[str(dtype)]
            raise TypeError(f"{name} is {found}, but {expected} was expected")
        if tensor.shape != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not {shape}")
    return tensors


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path).lstrip(".")


def _require_last_state(env: BridgedEnv, env_state: Tensor) -> None:
    """Raises if a state is not the last one; on a GPU reading it would block."""
    if env_state.device.type != "cpu" or int(env_state) == env.host_side.calls:
        return
    raise ValueError(
        f"env_state is that of call {int(env_state)}, but the simulator has done "
        f"{env.host_side.calls} and cannot go back: pass on the state that the last "
        "call returned, or reset"
    )
