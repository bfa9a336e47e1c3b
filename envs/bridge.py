"""The bridge to a torch simulator: who owns a buffer, and in which order it is used.

`bridge(torch_env, driver)` returns an `Env`. Two drivers run the same operations:

* "in_jit": XLA calls the simulator from inside a jitted program, which hands over its
  own buffers to be filled in place. `step` can be traced, so that a whole iteration,
  or a whole training, is one program.
* "host": a Python loop (`host_scan`). The simulator's tensors are copied to memory that
  JAX sees through DLPack, and read by one jitted call per step, before the simulator
  can write there again.

Both give the same numbers. Neither converts a type, but for rewards and flags where
that is exact; what JAX would convert without saying so is refused.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ppo_jax.envs.dlpack import Tensor, require_same_device, spec_of
from ppo_jax.envs.drivers import (
    Follow,
    Link,
    Operation,
    call_in_jit,
    call_on_host,
    follow_on_host,
)
from ppo_jax.envs.programs import SimulatorProgram, WrongCalls
from ppo_jax.envs.state_trail import Remembering
from ppo_jax.envs.torch_env import TorchEnv, result_of
from ppo_jax.types import (
    Array,
    AugmentFn,
    Continuous,
    EnvInfo,
    Key,
    Obs,
    Simulator,
    TimeStep,
)

DRIVERS = ("in_jit", "host")


@dataclass(frozen=True, eq=False)
class BridgedEnv(Simulator):
    """A torch simulator as an `Env`; made by `bridge`.

    There is one simulator and it cannot go back, so `env_state` holds no state: it is
    the number of calls so far, [] int32. Passing it from call to call orders them
    inside a jitted program; on the CPU a state that is not the last one is refused.
    """

    info: EnvInfo
    link: Link
    driver: str

    @property
    def torch_env(self) -> TorchEnv:
        """The simulator itself."""
        return self.link.torch_env

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

    def step_and(
        self, follow: Follow, env_state: Array, action: Array, *args: Any
    ) -> tuple[Array, Array, Any]:
        """Steps from the host, and calls a program that takes what the step returned.

        One program between two steps of the simulator, where `step` is one that copies.

        Args:
          follow: a jitted function of (env_state, lent timestep, *args), see
            `drivers.follow_on_host`; it returns (env_state, next action, the rest).
          env_state: the last one.
          action: for every environment.
          *args: of `follow`.
        """
        return follow_on_host(self.link, _step, follow, env_state, action, args=args)

    def randomize_episode_length(self, env_state: Array, key: Key) -> Array:
        """Draws how many steps of each episode count as taken, uniformly."""
        shape = (self.num_envs,)
        length = jax.random.randint(key, shape, 0, self.max_episode_length, jnp.int32)
        return self._call(_set_episode_length, env_state, length)[0]

    def jit(self, function: Callable[..., Any], **options: Any) -> SimulatorProgram:
        """Returns what `jax.jit` does, of a function that steps the simulator.

            step = env.jit(partial(iterate, ppo, env, 24), donate_argnums=0)

        It is compiled so that no step is doubled, and checked before it runs; see
        `ppo_jax.envs.programs`. On CUDA a plain `jax.jit` is not enough.
        """
        return SimulatorProgram(function, **options)

    @contextmanager
    def errors(self, num_calls: int | None = None) -> Iterator[None]:
        """Re-raises what the simulator raised in a jitted program, traceback and all.

        XLA passes on only the text of an exception. Put this around the jitted call
        and whatever waits for its result:

            with env.errors(num_calls=24):
                run, metrics = jax.device_get(step(run, hparams))

        Args:
          num_calls: of `step`, `reset` and `randomize_episode_length` in there; None:
            any.

        Raises:
          WrongCalls: the simulator was called otherwise.
        """
        before = self.link.calls
        try:
            yield
        except jax.errors.JaxRuntimeError:
            error, self.link.error = self.link.error, None
            if error is None:
                raise
            raise error from None
        done = self.link.calls - before
        if num_calls not in (None, done):
            raise WrongCalls(
                f"the simulator was called {done} times where {num_calls} calls were "
                "asked for, so that what was learned from is not what was acted on: "
                "jit with env.jit, or step it from the host (--bridge host, driver = "
                f"'host'); driver = {self.driver!r}, jax {jax.__version__}"
            )

    def drain_log(self) -> dict[str, float]:
        """Returns what the simulator logged since the last call, and forgets it.

        With it "Perf/simulation_time", the seconds that the host spent in its calls.
        """
        seconds, self.link.seconds = self.link.seconds, 0.0
        return self.torch_env.drain_log() | {"Perf/simulation_time": seconds}

    def save_config(self, path: Path) -> None:
        """Writes the simulator's configuration as YAML."""
        self.torch_env.save_config(path)

    def deployment(self, groups: Sequence[str]) -> dict[str, str]:
        """Returns what the simulator tells a robot; see `TorchEnv.deployment`."""
        tell = getattr(self.torch_env, "deployment", None)
        return tell(groups) if tell else {}

    def symmetry(self, augment: Any, obs: Obs) -> AugmentFn:
        """Returns a symmetry of the simulator's, in torch, as a function in JAX.

        Args:
          augment: rsl_rl's function of (env, obs, actions).
          obs: {group: [N, ...]}, shapes of the observations.
        """
        from ppo_jax.envs.torch_symmetry import recover

        if not isinstance(self.action_space, Continuous):
            raise ValueError("a symmetry in torch needs actions that are continuous")
        shapes = {group: x.shape[1:] for group, x in obs.items()}
        env, num_actions = self.torch_env, self.action_space.dim
        return recover(augment, env, shapes, num_actions, env.device)

    def state_dict(self) -> dict[str, Any]:
        """Returns what of the simulator a resumed run puts back, as plain values."""
        save = getattr(self.torch_env, "state_dict", None)
        return save() if save else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` returned, from the next `reset` on."""
        load = getattr(self.torch_env, "load_state_dict", None)
        if load and state:
            load(state)

    def remember(self, num_steps: int) -> None:
        """Keeps from now on what the last steps were, see `Remembering`.

        Raises:
          ValueError: the simulator does not tell its state.
        """
        self.link.torch_env = Remembering(self.torch_env, num_steps)  # type: ignore[assignment]

    def close(self) -> None:
        """Lets go of the simulator's buffers and ends it."""
        self.link.kept.clear()
        self.link.lent.clear()
        self.link.fence = self.link.state = None
        self.torch_env.close()

    def _call(
        self, operation: Operation, env_state: Array | None, *inputs: Array
    ) -> Any:
        call = call_in_jit if self.is_traceable else call_on_host
        return call(self.link, operation, env_state, *inputs)


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
        _reset: result_of(obs, prefix="obs"),
        _step: result_of(specs),
        _set_episode_length: result_of(()),
    }
    return BridgedEnv(torch_env.info, Link(torch_env, results), driver)


def _reset(torch_env: TorchEnv, seed: Tensor) -> Any:
    return torch_env.reset(int(seed))


def _step(torch_env: TorchEnv, action: Tensor) -> Any:
    return torch_env.step(action.clone())  # the buffer is only lent


def _set_episode_length(torch_env: TorchEnv, length: Tensor) -> Any:
    torch_env.set_episode_length(length.clone())
    return ()
