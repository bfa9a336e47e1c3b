"""Many runs as one program: members that differ in their seeds and dynamic scalars.

Letters in the shape comments: P members, first in every array; I iterations. The
members are spread over the devices of all processes; none talks to another, unless they
evolve.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from ppo_jax.learning.algorithm import Algorithm
from ppo_jax.learning.ppo import jitted
from ppo_jax.loops.programs import jit
from ppo_jax.loops.rollout import Scan, host_scan
from ppo_jax.loops.training import init_run, iterate
from ppo_jax.types import Env, Hyperparams, Key, Metrics, RunState, Simulator

AXIS = "member"


class Population(NamedTuple):
    """P runs at once as functions that can be compiled for any P."""

    mesh: Mesh
    num_iterations: int  # that one call of `advance` does
    init: Any  # as `jax.jit` gives it: (key [P], hparams [P]) -> RunState [P, ...]
    advance: Any  # likewise: (runs, hparams) -> Advanced; donates the runs
    on_host: tuple[Callable[..., Any], ...] = ()  # both, where they cannot be compiled


class Advanced(NamedTuple):
    """P runs after some iterations."""

    runs: RunState  # [P, ...]
    hparams: Hyperparams  # each [P], for the next iteration
    metrics: Metrics  # [P, I, ...]


# (runs, hparams, metrics [P]) after an iteration -> what the next one begins with, and
# what there is to say of it; `pbt.evolve` is one.
Evolve = Callable[
    [RunState, Hyperparams, Metrics], tuple[RunState, Hyperparams, Metrics]
]


def make_population(
    ppo: Algorithm,
    env: Env,
    num_steps: int,
    num_iterations: int,
    init_at_random_ep_len: bool = True,
    devices: Sequence[Any] | None = None,
    evolve: Evolve | None = None,
) -> Population:
    """Returns `init_run` and `iterate` for P members; a row is the run alone.

    Args:
      ppo: the algorithm, the same for all members.
      env: environments of one member; each has its own, or its part of a simulator.
      num_steps: T, steps of every environment per iteration.
      num_iterations: I, done by one call.
      init_at_random_ep_len: see `init_run`.
      devices: to spread the members over; None: all, of all processes. One of this
        process, if members are to evolve, or share a simulator.
      evolve: what members learn from each other after every iteration; None: nothing.
    """
    settings = num_steps, num_iterations, init_at_random_ep_len, evolve
    mesh = Mesh(np.array(jax.devices() if devices is None else devices), (AXIS,))
    members = PartitionSpec(AXIS)
    spread = partial(
        jax.shard_map, mesh=mesh, in_specs=members, out_specs=members, check_vma=False
    )
    traced = env.traceable() if isinstance(env, Simulator) else env
    start, advance = _functions(ppo, traced, *settings, jax.lax.scan)
    on_host: tuple[Callable[..., Any], ...] = ()
    if isinstance(env, Simulator) and not env.is_traceable:
        on_host = _functions(jitted(ppo), env, *settings, host_scan)
    return Population(
        mesh=mesh,
        num_iterations=num_iterations,
        init=jit(env, spread(start), once=True),
        advance=jit(env, spread(advance), donate_argnums=0),
        on_host=on_host,
    )


def _functions(
    ppo: Algorithm,
    env: Env,
    num_steps: int,
    num_iterations: int,
    init_at_random_ep_len: bool,
    evolve: Evolve | None,
    scan: Scan,
) -> tuple[Callable[..., RunState], Callable[..., Advanced]]:
    """Returns the functions of a population, for all of its members."""

    def start(key: Key, hparams: Hyperparams) -> RunState:
        return init_run(ppo, env, hparams, key, init_at_random_ep_len)

    def one(run: RunState, hparams: Hyperparams) -> tuple[RunState, Metrics]:
        return iterate(ppo, env, num_steps, run, hparams, scan)

    def body(carry: Any, _: Any) -> Any:
        runs, hparams = carry
        runs, metrics = jax.vmap(one)(runs, hparams)
        news: Metrics = {}
        if evolve:
            runs, hparams, news = evolve(runs, hparams, metrics)
        return (runs, hparams), metrics | news

    def advance(runs: RunState, hparams: Hyperparams) -> Advanced:
        start = runs, hparams
        (runs, hparams), metrics = scan(body, start, np.arange(num_iterations))
        metrics = jax.tree.map(lambda x: x.swapaxes(0, 1), metrics)
        return Advanced(runs, hparams, metrics)

    return jax.vmap(start), advance
