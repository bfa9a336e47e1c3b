"""One simulator for several learners: each has a part of its environments.

A program that is written for one learner and mapped over P of them by `jax.vmap` steps
the simulator once per step, and not P times: what is inside `vmap` sees one part.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from ppo_jax.types import Array, EnvInfo, Key, Obs, Simulator, TimeStep


def share(simulator: Simulator, num_members: int) -> "SharedSimulator":
    """Returns the environments of one of P learners, to be mapped over all of them.

        env = share(make_isaac_env("Isaac-Cartpole-Direct", 1024), 4)  # 256 each
        runs = jax.vmap(partial(init_run, ppo, env))(hparams, keys)    # of 4

    Args:
      simulator: N environments; learner p has those from p * N / P on.
      num_members: P.

    Raises:
      ValueError: N is no multiple of P.
    """
    if simulator.num_envs % num_members:
        raise ValueError(
            f"num_envs = {simulator.num_envs} cannot be split among {num_members} "
            f"members: give a multiple of {num_members}"
        )
    return SharedSimulator(simulator, num_members)


@dataclass(frozen=True, eq=False)
class SharedSimulator(Simulator):
    """A part of a simulator as a `Simulator`; made by `share`.

    `reset`, `step` and `randomize_episode_length` have to be inside a `vmap` over the P
    members. Then all members act together; outside of one they can be traced for their
    shapes, and raise when they run. Where the simulator needs one key, it takes that of
    the first member.
    """

    simulator: Simulator
    num_members: int

    @property
    def info(self) -> EnvInfo:
        """That of the simulator, with N / P."""
        num_envs = self.simulator.num_envs // self.num_members
        return replace(self.simulator.info, num_envs=num_envs)

    @property
    def is_traceable(self) -> bool:
        """Whether `reset` and `step` can run inside jit."""
        return self.simulator.is_traceable

    def traceable(self) -> "SharedSimulator":
        """Returns the same environments with the driver that can be traced."""
        return SharedSimulator(self.simulator.traceable(), self.num_members)

    def reset(self, key: Key) -> tuple[Array, Obs]:
        """Starts every environment anew, with a seed drawn from the first key."""

        def reset_all(simulator: Simulator, key: Array) -> tuple[Array, Obs]:
            env_state, obs = simulator.reset(key[0])
            return self._same(env_state), self._split(obs)

        return self._together(reset_all, key)

    def step(self, env_state: Array, action: Array) -> tuple[Array, TimeStep]:
        """Steps every environment of every member."""

        def step_all(simulator: Simulator, env_state: Array, action: Array) -> Any:
            action = action.reshape(simulator.num_envs, *action.shape[2:])
            env_state, timestep = simulator.step(env_state[0], action)
            return self._same(env_state), self._split(timestep)

        return self._together(step_all, env_state, action)

    def randomize_episode_length(self, env_state: Array, key: Key) -> Array:
        """Draws how far each episode is, with the first key."""

        def randomize_all(simulator: Simulator, env_state: Array, key: Array) -> Array:
            env_state = simulator.randomize_episode_length(env_state[0], key[0])
            return self._same(env_state)

        return self._together(randomize_all, env_state, key)

    def jit(self, function: Callable[..., Any], **options: Any) -> Any:
        """Returns what `jax.jit` does, compiled as the simulator needs it."""
        return self.simulator.jit(function, **options)

    def errors(self, num_calls: int | None = None) -> AbstractContextManager[None]:
        """Re-raises what the simulator raised, or that it was not called as often."""
        return self.simulator.errors(num_calls)

    def drain_log(self) -> dict[str, float]:
        """Returns {tag: mean} over all members; a simulator does not know them."""
        return self.simulator.drain_log()

    def save_config(self, path: Path) -> None:
        """Writes the simulator's configuration as YAML."""
        self.simulator.save_config(path)

    def state_dict(self) -> dict[str, Any]:
        """Returns what of the simulator a resumed run puts back, for all members."""
        return self.simulator.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` returned, from the next `reset` on."""
        self.simulator.load_state_dict(state)

    def close(self) -> None:
        """Ends the simulator, for all members."""
        self.simulator.close()

    def _together(self, operate: Callable[..., Any], *inputs: Array) -> Any:
        """Runs an operation once for all members, [P, ...] -> [P, ...], under vmap."""

        @custom_vmap
        def one(*inputs: Array) -> Any:
            copies = jax.tree.map(self._same, inputs)
            traced = partial(operate, self.simulator.traceable())
            outputs = jax.eval_shape(traced, *copies)
            alone = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), outputs
            )
            return jax.pure_callback(_refuse, alone)

        @one.def_vmap
        def all_of_them(axis_size: int, in_batched: Any, *inputs: Array) -> Any:
            if axis_size != self.num_members:
                raise ValueError(
                    f"vmap over {axis_size} members, but the simulator is shared by "
                    f"{self.num_members}"
                )
            inputs = tuple(
                x if batched else self._same(x)
                for x, batched in zip(inputs, in_batched, strict=True)
            )
            outputs = operate(self.simulator, *inputs)
            return outputs, jax.tree.map(lambda _: True, outputs)

        return one(*inputs)

    def _split(self, tree: Any) -> Any:
        """Returns [N, ...] as [P, N / P, ...]."""
        shape = self.num_members, self.num_envs
        return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), tree)

    def _same(self, x: Array) -> Array:
        """Returns an array for each member, [P, ...]."""
        return jnp.broadcast_to(x, (self.num_members, *x.shape))


def _refuse() -> None:
    raise RuntimeError(
        "a shared simulator is stepped by all its members at once: map over them with "
        "jax.vmap"
    )
