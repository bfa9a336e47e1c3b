"""Several processes that run one program: how they agree.

Every process runs the same commands, and the devices of all are one mesh. What one
process alone can know (its disk, its clock, its free memory) is decided by process 0,
or is the least of all, so that no two ever take different ways. Every function here but
`is_first` is called by all processes, in the same order. Without `cluster.joined` there
is one process, and nothing is sent.
"""

import json
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

SIGHT_SECONDS = 90  # above the minute that NFS may keep an old listing of a folder


def is_first() -> bool:
    """Returns whether this is the process that writes and prints."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def count() -> int:
    """Returns how many processes there are."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def index() -> int:
    """Returns the number of this process, from 0."""
    return jax.process_index() if count() > 1 else 0


def own_device(name: str) -> str:
    """Returns this process's device where `name` is that of one process: its own GPU.

    Args:
      name: as torch calls devices; one that has a number above 0 is meant as it is.
    """
    if count() == 1 or name not in ("cuda", "cuda:0"):
        return name
    return f"cuda:{jax.local_devices()[0].local_hardware_id or 0}"


def agree(make: Callable[[], Any]) -> Any:
    """Returns in all processes what a function returns in process 0.

    Args:
      make: called by process 0 alone; what it returns survives JSON.

    Raises:
      ValueError: `make` raised something; in the other processes. In process 0 it is
        what it was.
    """
    if count() == 1:
        return make()
    message, mine = {}, None
    if is_first():
        try:
            message = {"value": make()}
        except Exception as error:
            message, mine = {"error": str(error)}, error
    message = json.loads(_broadcast(json.dumps(message).encode()))
    if mine is not None:
        raise mine
    if "error" in message:
        raise ValueError(message["error"])
    return message["value"]


@contextmanager
def in_first(enter: Callable[[], AbstractContextManager[Any]]) -> Iterator[Any]:
    """Enters a context in process 0 alone, and gives there what that gives; else None.

    Raises:
      ValueError: it cannot be entered; in all processes, see `agree`.
    """
    with ExitStack() as stack:
        entered: list[Any] = []
        agree(lambda: entered.append(stack.enter_context(enter())))
        yield entered[0] if entered else None


def values_of_all(value: Any) -> list[Any]:
    """Returns the value of every process, in their order; it survives JSON."""
    if count() == 1:
        return [value]
    text = json.dumps(value).encode()
    length = most(len(text))
    padded = np.zeros((1, 1 << length.bit_length()), np.uint8)
    padded[0, : len(text)] = np.frombuffer(text, np.uint8)
    rows = _all_gather(padded)
    return [json.loads(bytes(row).rstrip(b"\0")) for row in rows]


@contextmanager
def together() -> Iterator[None]:
    """Says in a sentence that another process is gone, where a program meets it.

    Raises:
      ConnectionError: another process has ended.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if count() == 1 or "RESOURCE_EXHAUSTED" in str(error):
            raise
        raise _gone(error) from error


def least(number: int) -> int:
    """Returns the smallest of the numbers that the processes have."""
    return min(_numbers_of_all(number))


def most(number: int) -> int:
    """Returns the largest of the numbers that the processes have."""
    return max(_numbers_of_all(number))


def check_same(what: str, value: Any) -> None:
    """Checks that all processes have the same plain value.

    Raises:
      ValueError: one has another than process 0; names it. In all processes.
    """
    digest = zlib.crc32(json.dumps(value, sort_keys=True).encode())
    digests = _numbers_of_all(digest)
    others = [i for i, other in enumerate(digests) if other != digests[0]]
    if others:
        raise ValueError(
            f"process {others[0]} has other {what} than process 0: start all processes "
            "alike, but for --process_id"
        )


def wait_for(path: Path) -> None:
    """Waits until every process can see what process 0 has written.

    Raises:
      ValueError: one does not see it; names it. In all processes.
    """
    if count() == 1:
        return
    least(0)  # nobody looks before process 0 is here
    until = time.monotonic() + SIGHT_SECONDS
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.1)
    blind = [i for i, seen in enumerate(_numbers_of_all(path.exists())) if not seen]
    if blind:
        raise ValueError(
            f"process {blind[0]} does not see {path}, which process 0 wrote: run all "
            "processes in one folder of a file system that they share"
        )


def spread(x: Any, sharding: NamedSharding) -> jax.Array:
    """Puts an array that every process has on the devices of all."""
    if count() == 1:
        return jax.device_put(x, sharding)
    return jax.make_array_from_callback(x.shape, sharding, lambda part: x[part])


def gather(tree: Any) -> Any:
    """Returns arrays whole and on the host in every process, keys as their data."""
    tree = jax.tree.map(_data, tree)
    if count() == 1:
        return jax.device_get(tree)
    return _all_gather(tree)


def gather_bytes(tree: Any) -> int:
    """Returns what `gather` needs on each device: the largest array, whole."""
    if count() == 1:
        return 0
    shapes = jax.tree.leaves(jax.eval_shape(partial(jax.tree.map, _data), tree))
    return max(x.size * x.dtype.itemsize for x in shapes)


# --- helpers


def _data(x: Any) -> Any:
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(x) if is_key else x


def _numbers_of_all(number: int) -> list[int]:
    """Returns the number of every process, in two halves: jax has 32 bits."""
    if count() == 1:
        return [number]
    halves = np.array(divmod(number, 2**31), np.int32)
    rows = _all_gather(halves[None])
    return [int(high) * 2**31 + int(low) for high, low in rows]


def _broadcast(text: bytes) -> bytes:
    """Returns the bytes of process 0; the others give any."""
    from jax.experimental import multihost_utils

    def send(x: np.ndarray) -> np.ndarray:
        return _exchange(multihost_utils.broadcast_one_to_all, x)

    length = int(send(np.array(len(text), np.int32)))
    padded = np.zeros(1 << length.bit_length(), np.uint8)  # few shapes to compile
    if is_first():
        padded[:length] = np.frombuffer(text, np.uint8)
    return send(padded)[:length].tobytes()


def _all_gather(tree: Any) -> Any:
    from jax.experimental import multihost_utils

    return _exchange(partial(multihost_utils.process_allgather, tiled=True), tree)


def _exchange(collective: Callable[[Any], Any], tree: Any) -> Any:
    """Calls a collective; what it raises is that another process is gone.

    Raises:
      ConnectionError: another process has ended.
    """
    try:
        return collective(tree)
    except (ValueError, RuntimeError) as error:
        raise _gone(error) from error


def _gone(error: Exception) -> ConnectionError:
    reason = str(error).partition("\n")[0]
    return ConnectionError(
        f"another process has ended ({reason}): see what it said; what was saved is "
        "kept, start all processes again with --resume"
    )
