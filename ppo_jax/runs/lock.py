"""A folder that one process holds: two that wrote a run would spoil each other's files.

    with lock.held(folder, "run"):
        ...  # read the newest checkpoint, go on, write

`held` raises `Held`, a ValueError of one sentence with host and process id, at once
where another process or thread has the folder. In a thread that holds it already it
does nothing, so that a command may hold a folder before it reads it, and the loop again
while it writes. Where several processes are one program, the one that writes holds.

The lock is `flock` on FOLDER/.lock. It dies with its process, whatever killed that, so
a file that is left behind says nothing. Linux gives it to the server of a network file
system as a byte-range lock, which other hosts see. A file system that knows no locks
gets FOLDER/.lock.owner, of which the existence counts: that of a process that died on
this host is taken over, that of another host a person must delete, and the sentence
says so.
"""

import datetime
import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

FILE = ".lock"
OWNER = ".lock.owner"
TAKEN = {errno.EWOULDBLOCK, errno.EACCES}
NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
SECONDS_TO_READ = 0.5  # the holder may be about to write who it is

_threads: dict[Path, int] = {}  # which thread of this process holds a folder
_guard = threading.Lock()


class Held(ValueError):
    """Another process, or another thread of this one, has the folder."""


@contextmanager
def held(folder: Path, what: str = "run") -> Iterator[None]:
    """Holds a folder until the block ends or the process dies.

    Args:
      folder: that is there, and can be written to.
      what: it is, for the sentence.

    Raises:
      Held: another process or thread has it.
      OSError: nothing can be written there.
    """
    path, thread = folder.resolve(), threading.get_ident()
    with _guard:
        is_outermost = path not in _threads
        if _threads.setdefault(path, thread) != thread:
            raise _held_by(folder, what, _me())
    if not is_outermost:
        yield
        return
    try:
        with _locked(folder, what):
            yield
    finally:
        del _threads[path]


@contextmanager
def _locked(folder: Path, what: str) -> Iterator[None]:
    descriptor = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with _lock_of(descriptor, folder, what):
            yield
    finally:
        os.close(descriptor)


def _lock_of(descriptor: int, folder: Path, what: str) -> AbstractContextManager[None]:
    """Locks an open file, or by existence where the file system cannot."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return _existing(folder, what)
        if error.errno in TAKEN:
            raise _held_by(folder, what, _read(folder / FILE)) from None
        raise
    return _named(descriptor)


@contextmanager
def _named(descriptor: int) -> Iterator[None]:
    """Writes who holds the lock into its file, for others to read, while it is held."""
    with suppress(
        OSError
    ):  # it only informs: a full disk is found by what must be kept
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(_me()).encode(), 0)
    try:
        yield
    finally:
        with suppress(OSError):
            os.ftruncate(descriptor, 0)


@contextmanager
def _existing(folder: Path, what: str) -> Iterator[None]:
    """Holds by a file that nobody else could make, since it exists."""
    path = folder / OWNER
    if path.exists() and _has_died(_read(path)):
        path.unlink(missing_ok=True)
    try:
        with path.open("x") as file:
            json.dump(_me(), file)
    except FileExistsError:
        hint = f"; if that process is gone, delete {path}"
        raise _held_by(folder, what, _read(path), hint) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _me() -> dict[str, Any]:
    since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    return {"host": socket.gethostname(), "process": os.getpid(), "since": since}


def _read(path: Path) -> dict[str, Any]:
    """Returns who holds a lock; nothing where that cannot be read."""
    until = time.monotonic() + SECONDS_TO_READ
    while True:
        try:
            found = json.loads(path.read_text())
            return found if found.keys() >= _me().keys() else {}
        except (OSError, ValueError, AttributeError):
            if time.monotonic() > until:
                return {}
            time.sleep(0.02)


def _has_died(owner: dict[str, Any]) -> bool:
    """Whether a process of this host is gone; of another host nobody knows."""
    if owner.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(owner["process"]), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is there, and somebody else's
        return False
    return False


def _held_by(folder: Path, what: str, owner: dict[str, Any], hint: str = "") -> Held:
    who = "which cannot be read from its lock"
    if owner:
        who = f"{owner['process']} on {owner['host']}, since {owner['since']}"
    return Held(
        f"the {what} {folder} is held by another process, {who}: wait until it ends, "
        f"or stop it{hint}"
    )
