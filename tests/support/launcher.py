"""Starts processes of Python that need not import what this one has imported.

    python launcher.py LISTENER

One serves all workers of a run of tests, see `launching`. What it starts are processes
of their own, with their own arguments, folder, environment and streams, which end as
Python ends. Only what jax reads when it is imported (JAX_*) is as it was here; no
backend has been started. Where Isaac Lab is installed, it is imported too; its
processes would else take most of their time for that.
"""

import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import socket
import sys
import warnings
from contextlib import contextmanager
from importlib.util import find_spec

from jax._src import compilation_cache, compiler

IMPORTED = (
    *("ppo_jax.cli.train", "ppo_jax.cli.play", "ppo_jax.cli.sweep"),
    *("ppo_jax.cli.console", "ppo_jax.runs.checkpoint", "ppo_jax.runs.runner"),
    *("ppo_jax.envs", "ppo_jax.configs", "orbax.checkpoint"),
    *("tensorboardX", "matplotlib.pyplot"),
    *("pyarrow.parquet", "jax.experimental.multihost_utils", "pytest"),
)
OF_ISAAC_LAB = (
    *("torch", "torch._dynamo", "isaaclab_tasks", "ppo_jax.envs.isaac_tasks"),
    *("isaaclab.envs", "isaaclab.scene", "isaaclab_rl.rsl_rl"),
    *("newton", "mujoco_warp", "newton._src.solvers.mujoco.solver_mujoco"),
    *("isaaclab_newton.assets", "isaaclab_newton.physics.mjwarp_manager"),
)


def main():
    """Imports, serves, and in every new process runs what it was started for."""
    os.environ["PXR_WORK_THREAD_LIMIT"] = "1"  # a thread would not be in the others
    import_all(IMPORTED + OF_ISAAC_LAB * bool(find_spec("isaaclab")))
    compiler._cache_write = keep_program
    request = serve(socket.socket(fileno=int(sys.argv[1])))
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    code = request["code"]
    run([*(() if code is None else ("-c", code)), *request["argv"]])


def import_all(names):
    """Imports modules, and looks for no garbage among them: not now, and not later."""
    gc.disable()
    for name in names:
        importlib.import_module(name)
    gc.freeze()
    gc.enable()


def run(words):
    """Runs what `python WORDS` would run: a script, or `-c CODE`; says so to it."""
    sys.orig_argv = [sys.executable, *words]
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


def keep_program(key, seconds, name, backend, program, callbacks=()):
    """Keeps a compiled program, whichever process has compiled it; jax: only the first.

    A test starts the same processes again, on one disk.
    """
    if not callbacks:
        compilation_cache.put_executable_and_time(
            key, name, program, backend, int(seconds)
        )


def serve(listener):
    """Returns in every new process what it is to run; here, never."""
    channels = []
    while True:
        ready, _, _ = select.select([listener, *channels], [], [])
        if listener in ready:
            channels.append(listener.accept()[0])
            continue
        message, streams, _, _ = socket.recv_fds(ready[0], 1 << 20, 3)
        if not message:  # who asked is gone
            channels.remove(ready[0])
            ready[0].close()
            end_after_the_last(listener, channels)
        elif fork():
            for stream in streams:
                os.close(stream)
            reap()
        else:
            for connected in (listener, *channels):
                connected.close()
            take_part(*streams)
            return json.loads(message)


def take_part(out, err, status):
    """Goes on in a child of this process, whose streams are these."""
    child = fork()
    if child:
        watch(child, out, err, status)
    os.close(status)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)


def end_after_the_last(listener, channels):
    """Ends when nobody is connected, and nobody is about to be."""
    place = listener.getsockname()
    try:
        with alone(place):
            if not channels and not select.select([listener], [], [], 0)[0]:
                os.unlink(place)
                os._exit(0)
    except FileNotFoundError:  # all tests have ended
        os._exit(0)


@contextmanager
def alone(place):
    """Lets one process at a time begin, or end, what listens at a place."""
    folder = os.open(os.path.dirname(place), os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def fork():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of jax's threads: there are none yet
        return os.fork()


def watch(child, out, err, status):
    """Tells the number of a process, and how it ended; then ends itself."""
    os.close(out)
    os.close(err)
    os.write(status, f"{child}\n".encode())
    _, end = os.waitpid(child, 0)
    os.write(status, f"{os.waitstatus_to_exitcode(end)}\n".encode())
    os._exit(0)


def reap():
    """Lets the watchers go that have ended."""
    while os.waitpid(-1, os.WNOHANG)[0]:
        pass


if __name__ == "__main__":
    main()
