"""The devices that learn one policy: which they are, and what of a run is on each.

A task in JAX spreads its environments over devices of this process, or of all; each
process of a simulator has one device and a simulator of its own. `None` in place of a
mesh is one device, and then nothing here does anything.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from ppo_jax.loops import shards
from ppo_jax.runs import processes
from ppo_jax.runs.config import Config
from ppo_jax.types import RunState, TrainState


class Diverged(Exception):
    """What is learned is not the same on all devices; the message says where."""


def mesh_for(config: Config, is_simulated: bool) -> Mesh | None:
    """Returns the devices that are to learn one policy; None: it is one.

    Raises:
      ValueError: there are not as many, or the environments cannot be split.
    """
    here = jax.local_devices()
    if is_simulated:
        if config.devices != 1:
            raise ValueError(
                f"devices = {config.devices!r}, but {config.task} runs in a simulator, "
                "which has one device: give --num_processes N, each with a simulator "
                "of its own"
            )
        count = 1
    else:
        count = len(here) if config.devices == "all" else int(config.devices)
    if count > len(here):
        raise ValueError(
            f"devices = {count}, but this machine has {len(here)} "
            f"({here[0].device_kind}): give --devices {len(here)} or all; a run that "
            "goes on with it begins new episodes"
        )
    chosen = {device.id for device in here[:count]}
    if processes.count() > 1:
        chosen = {
            device.id
            for process in range(processes.count())
            for device in _devices_of(process)[:count]
        }
    devices = [device for device in jax.devices() if device.id in chosen]
    if len(devices) == 1:
        return None
    if not is_simulated and config.num_envs % len(devices):
        raise ValueError(
            f"num_envs = {config.num_envs} cannot be split over {len(devices)} "
            "devices: give a multiple of that"
        )
    return shards.mesh_of(devices)


def size(mesh: Mesh | None) -> int:
    """Returns P, how many shards a run has."""
    return mesh.size if mesh else 1


def place(mesh: Mesh | None, run: RunState) -> RunState:
    """Returns a run with every array where it belongs; those that are there stay."""
    if mesh is None:
        return run
    return jax.tree.map(_put, run, shards.shardings(mesh, run))


def place_same(mesh: Mesh | None, tree: Any) -> Any:
    """Returns what every device is given, on all of them: a key, or scalars."""
    if mesh is None:
        return tree
    return jax.tree.map(lambda x: _put(x, NamedSharding(mesh, shards.SAME)), tree)


def as_shapes(mesh: Mesh | None, run: RunState) -> RunState:
    """Returns a run as shapes and types that say where their arrays are."""
    if mesh is None:
        return run
    return jax.tree.map(
        lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at),
        run,
        shards.shardings(mesh, run),
    )


def whole(mesh: Mesh | None, run: RunState) -> RunState:
    """Returns a run with all shards on the host, in every process: to be saved.

    Of several devices keys are their numbers, as `saved_shapes` says.
    """
    return run if mesh is None else processes.gather(run)


def saved_shapes(mesh: Mesh | None, run: RunState) -> RunState:
    """Returns the shapes and types of what `whole` gives, of those of a run."""
    if mesh is None:
        return run
    numbers = jax.eval_shape(lambda run: jax.tree.map(_numbers, run), run)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), numbers)


def with_keys(mesh: Mesh | None, saved: RunState, like: RunState) -> RunState:
    """Returns what `whole` gave with its keys as keys again."""
    if mesh is None:
        return saved
    return jax.tree.map(
        lambda x, y: jax.random.wrap_key_data(x) if _is_key(y) else x, saved, like
    )


def here(mesh: Mesh | None, same: Any) -> Any:
    """Returns what is the same on all devices from one of this process.

    For instance what was learned, to act with.
    """
    if mesh is None:
        return same
    return jax.tree.map(lambda x: x.addressable_data(0), same)


def require_equal(mesh: Mesh | None, train: TrainState) -> None:
    """Raises Diverged unless all bits of what is learned are equal on all devices."""
    if mesh is None:
        return
    numbers = shards.fingerprints(mesh, train).addressable_data(0).tolist()
    others = [i for i, number in enumerate(numbers) if number != numbers[0]]
    if others:
        device = mesh.devices.flat[others[0]]
        raise Diverged(
            f"in iteration {int(here(mesh, train).iteration)} device {device} of "
            f"process {device.process_index} has learned something else than the first "
            "one, although all compute the same: training stopped and nothing of it "
            "was saved; that is a fault of the machine or of ppo_jax, please report it"
        )


def _devices_of(process: int) -> list[Any]:
    return [d for d in jax.devices() if d.process_index == process]


def _put(x: Any, sharding: NamedSharding) -> Any:
    if getattr(x, "sharding", None) == sharding:
        return x
    return processes.spread(x, sharding)


def _numbers(x: Any) -> Any:
    return jax.random.key_data(x) if _is_key(x) else x


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
