"""Processes that the launcher starts, with what tests use of `subprocess.Popen`."""

import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import gettempdir

import launcher

ROOT = Path(__file__).resolve().parents[2]
PLACE = "PPO_JAX_TEST_LAUNCHER"  # names the socket at which it listens
_begun = []  # the launcher, if this process has begun it: Python warns of a lost one


class Process:
    """A real process that was spared its imports."""

    def __init__(self, folder, argv, code, environment):
        pipes = [os.pipe() for _ in range(3)]
        request = {
            "folder": str(folder),
            "argv": [str(word) for word in argv],
            "code": code,
            "environment": environment,
        }
        ours, theirs = zip(*pipes, strict=True)
        socket.send_fds(channel(), [json.dumps(request).encode()], theirs)
        for end in theirs:
            os.close(end)
        self.stdout, self.stderr, self._status = map(open, ours)
        self.pid = int(self._status.readline())
        self.returncode = None

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def poll(self):
        if select.select([self._status], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self):
        if self.returncode is None:
            self.returncode = int(self._status.readline())
        return self.returncode

    def communicate(self, timeout=None):
        """Returns what is left of stdout and stderr when the process has ended."""
        said = ["", ""]

        def read(place, stream):
            if not stream.closed:
                with stream:
                    said[place] = stream.read()

        streams = enumerate((self.stdout, self.stderr))
        readers = [threading.Thread(target=read, args=x, daemon=True) for x in streams]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
        self.wait()
        return tuple(said)


@functools.cache
def channel():
    """Returns the way to the launcher, which the first to need one begins.

    It is that of all workers of a run of tests; else, this process's own.
    """
    place = os.environ.get(PLACE, f"{gettempdir()}/ppo_jax_launcher_{os.getpid()}")
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with launcher.alone(place):
        try:
            ours.connect(place)
        except FileNotFoundError:
            _begun.append(begin(place))
            ours.connect(place)
    return ours


def begin(place):
    """Starts a launcher; it ends with the last process that is connected to it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(place)
        listener.listen()
        return subprocess.Popen(
            [sys.executable, launcher.__file__, str(listener.fileno())],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
        )
