"""One run over many devices: each has environments of its own, what is learned is one.

Letters in the shape comments: P shards, one on each device of the mesh. Of a run over
P shards `train` is as of one, and the same on all of them; everything else is stacked,
[P, ...], a row on each.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ppo_jax.policies.shards import place_of, rows_over
from ppo_jax.types import Array, Hyperparams, Key, Metrics, RunState, TrainState

AXIS = "shard"
SAME, OWN = PartitionSpec(), PartitionSpec(AXIS)
PARTS: Any = [SAME, *[OWN] * (len(RunState._fields) - 1)]  # `train`, and all else
SPECS = RunState(*PARTS)


def mesh_of(devices: Sequence[Any]) -> Mesh:
    """Returns the mesh of P devices, along `AXIS`."""
    return Mesh(np.array(devices), (AXIS,))


def over(mesh: Mesh, function: Callable[..., Any], inputs: Any, outputs: Any) -> Any:
    """Returns a function that every shard runs, along `AXIS`.

    Args:
      mesh: from `mesh_of`.
      function: of one shard.
      inputs: specs of what it is given, `SAME` or `OWN`.
      outputs: specs of what it returns; what is `SAME` is so by its own doing.
    """
    return jax.shard_map(
        function, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False
    )


def start_on(mesh: Mesh, start: Callable[..., RunState]) -> Callable[[Key], RunState]:
    """Returns what starts a run over a mesh.

    Args:
      mesh: of P devices.
      start: (key, shard=) -> run of one shard, as `init_run` is.
    """
    return over(mesh, lambda key: stack(start(key, shard=place_of(AXIS))), SAME, SPECS)


def iterate_on(
    mesh: Mesh, step: Callable[..., tuple[RunState, Metrics]]
) -> Callable[[RunState, Hyperparams], tuple[RunState, Metrics]]:
    """Returns one iteration of a run over a mesh.

    Args:
      mesh: of P devices.
      step: (run of one shard, hparams) -> (run, metrics), along `AXIS`.
    """

    def one(run: RunState, hparams: Hyperparams) -> tuple[RunState, Metrics]:
        run, metrics = step(unstack(run), hparams)
        return stack(run), metrics

    return over(mesh, one, (SPECS, SAME), (SPECS, SAME))


def stack(run: RunState) -> RunState:
    """Returns the run of one shard as a row of all."""
    return _on_own(lambda x: x[None], run)


def unstack(run: RunState) -> RunState:
    """Returns the run of the one shard that is there."""
    return _on_own(lambda x: x[0], run)


def shardings(mesh: Mesh, run: RunState) -> RunState:
    """Returns where each array of a run over a mesh is, in the run's own form."""
    return RunState(
        *(
            jax.tree.map(lambda _, spec=spec: NamedSharding(mesh, spec), part)
            for part, spec in zip(run, PARTS, strict=True)
        )
    )


def fingerprints(mesh: Mesh, train: TrainState) -> Array:
    """Returns a number of what each shard has learned, [P]: equal if all bits are.

    One bit that is another on one of them makes another number of it.
    """
    one = lambda train: rows_over(AXIS, fingerprint(train)[None])
    return jax.jit(over(mesh, one, SAME, SAME))(train)


def fingerprint(tree: Any) -> Array:
    """Returns a number of all bits of all arrays, [] uint32."""
    total = jnp.zeros((), jnp.uint32)
    for place, x in enumerate(jax.tree.leaves(tree)):
        bits = _bits(x).ravel().astype(jnp.uint32)
        odd = 2 * jnp.arange(bits.size, dtype=jnp.uint32) + 1
        total = 31 * total + jnp.sum(bits * odd, dtype=jnp.uint32) + jnp.uint32(place)
    return total


def _bits(x: Array) -> Array:
    if x.dtype == jnp.bool_:
        return x
    unsigned = jnp.dtype(f"uint{8 * x.dtype.itemsize}")
    return jax.lax.bitcast_convert_type(x, unsigned)


def _on_own(change: Callable[[Array], Array], run: RunState) -> RunState:
    own = {name: getattr(run, name) for name in run._fields if name != "train"}
    return run._replace(**jax.tree.map(change, own))
