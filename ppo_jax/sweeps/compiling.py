"""Populations as compiled programs: as many members at once as the memory holds."""

import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ppo_jax.loops.episodes import with_gaps
from ppo_jax.loops.population import AXIS, Advanced, Population
from ppo_jax.runs import processes
from ppo_jax.sweeps.planning import chunk_rows
from ppo_jax.types import Hyperparams, Key, Metrics, RunState

MEMORY_FRACTION = 0.8  # of what is free: the estimate is XLA's, not a measurement


class Compiled(NamedTuple):
    """A population compiled for one P, a multiple of the devices."""

    size: int  # P
    num_bytes: int  # that `advance` needs on each device
    num_iterations: int
    sharding: NamedSharding
    run: RunState  # [P, ...] as shapes and types
    init: Callable[[], Callable[..., RunState]]  # later stages of a sweep never ask
    advance: Callable[..., Advanced]


def compile_population(population: Population, num_members: int) -> Compiled:
    """Compiles for a number of members, rounded up to a multiple of the devices."""
    num_devices = population.mesh.size
    size = -(-num_members // num_devices) * num_devices
    sharding = NamedSharding(population.mesh, PartitionSpec(AXIS))

    def abstract(tree: Any) -> Any:
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
        )

    seed = jax.ShapeDtypeStruct((size,), np.uint32)
    scalar: Any = jax.ShapeDtypeStruct((size,), np.float32)
    key = abstract(jax.eval_shape(jax.vmap(jax.random.key), seed))
    hparams = abstract(Hyperparams(*[scalar] * len(Hyperparams._fields)))
    run = abstract(jax.eval_shape(population.init, key, hparams))
    if population.on_host:
        start, on_host = population.on_host
        return Compiled(
            size=size,
            num_bytes=0,
            num_iterations=population.num_iterations,
            sharding=sharding,
            run=run,
            init=lambda: start,
            advance=on_host,
        )
    advance = population.advance.lower(run, hparams).compile()
    return Compiled(
        size=size,
        num_bytes=processes.most(_num_bytes(advance) + processes.gather_bytes(run)),
        num_iterations=population.num_iterations,
        sharding=sharding,
        run=run,
        init=cache(lambda: population.init.lower(key, hparams).compile()),
        advance=advance,
    )


def compile_what_fits(population: Population, num_members: int) -> Compiled:
    """Compiles for all members at once, or for as many as the free memory holds.

    The members are cut into chunks as `num_chunks` cuts them.

    Raises:
      ValueError: not even one member per device fits.
    """
    free, num_devices = free_bytes(population.mesh), population.mesh.size
    limit = num_members
    while True:
        compiled = compile_population(population, chunk_rows(num_members, limit))
        if compiled.num_bytes <= free:
            return compiled
        if compiled.size == num_devices:
            raise ValueError(
                f"one member on each device needs {gigabytes(compiled.num_bytes)}, and "
                f"{gigabytes(free)} are free: give a smaller num_envs or "
                "num_steps_per_env"
            )
        fitting = compiled.size * free // compiled.num_bytes
        limit = max(min(fitting, compiled.size - 1) // num_devices, 1) * num_devices


def start_members(
    compiled: Compiled, keys: Sequence[Key], hparams: Hyperparams
) -> RunState:
    """Returns the runs before their first iteration, padded to the compiled size.

    Args:
      compiled: the program.
      keys: one per member.
      hparams: each [P].
    """
    key = jax.numpy.stack(keys)
    return compiled.init()(*place(compiled, (key, hparams)))


def advance_members(
    compiled: Compiled,
    runs: RunState,
    hparams: Hyperparams,
    num_iterations: int,
    on_block: Callable[[int, Metrics], None] = lambda done, metrics: None,
) -> Advanced:
    """Runs iterations of all members, a block at a time.

    Args:
      compiled: the program.
      runs: padded to the compiled size; they are donated.
      hparams: each [P].
      num_iterations: a multiple of what one call does.
      on_block: called after every block with the iterations done and its metrics.

    Returns:
      The runs, still padded; hyper-parameters and metrics on the host, [P, iterations,
      ...].
    """
    num_members = np.size(hparams.gamma)
    placed, history = place(compiled, hparams), []
    for block in range(num_iterations // compiled.num_iterations):
        runs, placed, metrics = compiled.advance(runs, placed)
        metrics = with_gaps(processes.gather(metrics))
        metrics = {k: x[:num_members] for k, x in metrics.items()}
        history.append(metrics)
        on_block((block + 1) * compiled.num_iterations, metrics)
    hparams = jax.tree.map(lambda x: x[:num_members], processes.gather(placed))
    metrics = jax.tree.map(lambda *x: np.concatenate(x, axis=1), *history)
    return Advanced(runs, hparams, metrics)


def place(compiled: Compiled, tree: Any) -> Any:
    """Puts [P, ...] arrays on the devices; the last member fills up the size."""

    def put(x: Any) -> jax.Array:
        rows = np.minimum(np.arange(compiled.size), len(x) - 1)
        return processes.spread(x[rows], compiled.sharding)

    return jax.tree.map(put, tree)


def free_bytes(mesh: Mesh) -> int:
    """Returns how much memory a program may take on each device of a mesh.

    A process sees its own devices and its own host only: the least of all processes
    counts. Processes may share a host, and do not know it: the memory of each host is
    divided by the devices of all.
    """
    stats = [device.memory_stats() for device in mesh.local_devices]
    if all(stats):
        free = min(s["bytes_limit"] - s["bytes_in_use"] for s in stats if s)
    else:
        free = _free_on_host() // mesh.size
    return processes.least(int(MEMORY_FRACTION * free))


def gigabytes(num_bytes: int) -> str:
    """Returns a size in words."""
    return f"{num_bytes / 2**30:.2g} GiB"


def _free_on_host() -> int:
    """Returns MemAvailable; where no system tells it, all the memory there is."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    (line,) = (x for x in text.splitlines() if x.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024


def _num_bytes(compiled: jax.stages.Compiled) -> int:
    """Returns what a program needs on each device; donated arguments count once.

    0 where the platform does not say: all members then run at once.
    """
    sizes: Any = compiled.memory_analysis()
    if sizes is None:
        return 0
    return (
        sizes.temp_size_in_bytes
        + sizes.argument_size_in_bytes
        + sizes.output_size_in_bytes
        - sizes.alias_size_in_bytes
    )
