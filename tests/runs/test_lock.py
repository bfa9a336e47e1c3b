"""A folder is held by one process, and no longer than that lives."""

import errno
import fcntl
import json
import os
import signal
import socket
import threading

import pytest
import running

from ppo_jax.runs import lock

HOLD = """
import sys, time
from pathlib import Path
from ppo_jax.runs import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(1000)
"""


@pytest.fixture
def no_locks(monkeypatch):
    """The file system answers as one without locks, such as NFS without lockd."""

    def refuse(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture
def gone(tmp_path):
    """What a process of this host that is dead has left behind."""
    process = running.start(tmp_path, code="")
    running.finish(process)
    return {"host": socket.gethostname(), "process": process.pid, "since": "then"}


def test_another_process_is_refused_with_host_and_process_until_the_first_dies(
    tmp_path,
):
    """SIGKILL gives the folder free; a third process has it at once."""
    first = running.start(tmp_path, str(tmp_path), code=HOLD)
    assert first.stdout.readline() == "held\n"
    with pytest.raises(lock.Held) as error, lock.held(tmp_path, "sweep"):
        pass
    sentence = str(error.value)
    assert sentence.startswith(f"the sweep {tmp_path} is held by another process, ")
    assert f"{first.pid} on {socket.gethostname()}, since 2" in sentence
    first.kill()
    assert running.finish(first)[0] == -signal.SIGKILL
    assert json.loads((tmp_path / lock.FILE).read_text())["process"] == first.pid
    with lock.held(tmp_path):
        assert json.loads((tmp_path / lock.FILE).read_text())["process"] == os.getpid()
    assert (tmp_path / lock.FILE).read_text() == ""


def test_a_thread_that_holds_may_hold_again_and_another_may_not(tmp_path):
    """A command holds before it reads, the loop again; the inner end frees nothing."""
    seen = []

    def other():
        try:
            with lock.held(tmp_path / "." / "sub" / ".."):
                seen.append("had it")
        except lock.Held as error:
            seen.append(str(error))

    def in_another_thread():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return seen.pop()

    (tmp_path / "sub").mkdir()
    with lock.held(tmp_path):
        with lock.held(tmp_path):
            pass
        assert f"{os.getpid()} on {socket.gethostname()}" in in_another_thread()
    assert in_another_thread() == "had it"


def test_what_goes_wrong_frees_the_folder(tmp_path):
    """An exception in the block passes through, and the folder is free again."""
    with pytest.raises(KeyboardInterrupt), lock.held(tmp_path):
        raise KeyboardInterrupt
    with lock.held(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', '{"host": "a"}'])
def test_a_holder_that_cannot_be_read_is_a_holder(tmp_path, monkeypatch, text):
    """The lock counts, and not what its file says."""
    monkeypatch.setattr(lock, "SECONDS_TO_READ", 0.05)
    path = tmp_path / lock.FILE
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(text)
        file.flush()
        with (
            pytest.raises(lock.Held, match="which cannot be read"),
            lock.held(tmp_path),
        ):
            pass


def test_without_locks_the_existence_of_a_file_counts(tmp_path, no_locks, gone):
    """A dead owner of this host is taken over, a living one and others' are not."""
    owner = tmp_path / lock.OWNER
    owner.write_text(json.dumps(gone))
    with lock.held(tmp_path):
        assert json.loads(owner.read_text())["process"] == os.getpid()
    assert not owner.exists()
    for other in ({"process": os.getppid()}, {"host": "elsewhere"}):
        owner.write_text(json.dumps(gone | other))
        with (
            pytest.raises(lock.Held, match=f"gone, delete {owner}"),
            lock.held(tmp_path),
        ):
            pass
        assert json.loads(owner.read_text()) == gone | other


def test_a_folder_that_cannot_be_written_is_an_error_of_its_own(tmp_path):
    """It is not there: an OSError that names it, and not that somebody holds it."""
    with pytest.raises(FileNotFoundError), lock.held(tmp_path / "nowhere"):
        pass
