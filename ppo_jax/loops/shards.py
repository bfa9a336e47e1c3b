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


def learn_on(mesh: Mesh, learn: Callable[..., tuple[RunState, Metrics]]) -> Any:
    """Returns what all shards learn from rollouts that each has taken on its host.

    Args:
      mesh: of P devices, one of this process.
      learn: `learn_from` of one shard, along `AXIS`.

    Returns:
      A function with arguments of this process's shard, as `iterate` calls it; what it
      returns is this process's too.
    """

    def one(run: RunState, mine: Any, hparams: Hyperparams) -> Any:
        rollout, metrics, key = jax.tree.map(lambda x: x[0], mine)
        run, metrics = learn(unstack(run), rollout, metrics, hparams, key)
        return stack(run), metrics

    together = jax.jit(over(mesh, one, (SPECS, OWN, SAME), (SPECS, SAME)))

    def on_host(
        run: RunState, rollout: Any, metrics: Metrics, hparams: Hyperparams, key: Key
    ) -> tuple[RunState, Metrics]:
        mine = _row((rollout, metrics, key))
        mine = jax.tree.map(lambda x: _join(mesh, OWN, x), mine)
        run, metrics = together(to_all(mesh, run), mine, hparams)
        return to_one(run), jax.tree.map(_here, metrics)

    return on_host


def to_all(mesh: Mesh, run: RunState) -> RunState:
    """Returns this process's shard of a run as its row of all; nothing is sent."""
    parts = _stack_jitted(run)
    return RunState(
        *(
            jax.tree.map(lambda x, spec=spec: _join(mesh, spec, x), part)
            for part, spec in zip(parts, PARTS, strict=True)
        )
    )


def to_one(run: RunState) -> RunState:
    """Returns this process's shard of a run, on its own device."""
    return _unstack_jitted(jax.tree.map(_here, run))


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


def _join(mesh: Mesh, spec: PartitionSpec, x: Array) -> Array:
    """Returns an array of this process's device as a part of that of all."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        data = _join(mesh, spec, jax.random.key_data(x))
        return jax.random.wrap_key_data(data)
    shape = x.shape if spec == SAME else (mesh.size, *x.shape[1:])
    (device,) = mesh.local_devices
    return jax.make_array_from_single_device_arrays(
        shape, NamedSharding(mesh, spec), [jax.device_put(x, device)]
    )


def _here(x: Array) -> Array:
    """Returns what this process has of an array."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_here(jax.random.key_data(x)))
    return x.addressable_data(0)


def _bits(x: Array) -> Array:
    if x.dtype == jnp.bool_:
        return x
    unsigned = jnp.dtype(f"uint{8 * x.dtype.itemsize}")
    return jax.lax.bitcast_convert_type(x, unsigned)


def _on_own(change: Callable[[Array], Array], run: RunState) -> RunState:
    own = {name: getattr(run, name) for name in run._fields if name != "train"}
    return run._replace(**jax.tree.map(change, own))


_row = jax.jit(lambda tree: jax.tree.map(lambda x: x[None], tree))
_stack_jitted, _unstack_jitted = jax.jit(stack), jax.jit(unstack)
