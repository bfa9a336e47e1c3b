"""How tests run the scripts: in this process, or as real processes."""

import atexit
import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import careless
import jax
import launching
import pytest
from jax.experimental.compilation_cache import compilation_cache

from ppo_jax.cli import entry
from ppo_jax.runs import folders

ROOT = Path(__file__).parents[2]
TINY = (
    "--num_envs=8",
    "num_steps_per_env=4",
    "num_learning_epochs=1",
    "num_mini_batches=2",
    "actor.hidden_dims=[8]",
    "critic.hidden_dims=[8]",
)
# Runs sweep.py, but stops for ever when the chunk PLACE is half on the disk.
WAIT_IN_CHUNK = """
import sys, time
import numpy
from ppo_jax.cli import entry, sweep

savez = numpy.savez

def save_and_wait(path, **arrays):
    savez(path, **arrays)
    if "PLACE" in str(path):
        print("waiting", flush=True)
        time.sleep(1000)

numpy.savez = save_and_wait
sys.argv[0] = "sweep.py"
entry.run_script(sweep.main)
"""

# Runs train.py, but stops at PLACE and waits there until a file of that name appears.
WAIT = """
import pathlib, sys, time
from ppo_jax.cli import console, entry, train
from ppo_jax.runs import arrays

def wait(name):
    print("waiting", flush=True)
    while not pathlib.Path(name).exists():
        time.sleep(0.01)

def in_iteration(number):
    plain = console._plain_lines
    def open_display():
        display = plain()
        def show(progress):
            display.show(progress)
            if progress.iteration == number:
                wait("after_iteration")
        return display._replace(show=show)
    console.open_display = open_display

def in_save(number):
    write = arrays.write
    def write_and_wait(path, item):
        write(path, item)
        if path.parent.name.startswith(f".{number}."):
            wait("after_save")
    arrays.write = write_and_wait

sys.argv[0] = "train.py"
PLACE
entry.run_script(train.main)
"""


def call(script, *argv):
    """Returns the exit code of a script's `main` as its command line would run it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name_of(script), *argv])
        patch.setattr(entry, "use_compilation_cache", lambda: None)
        with pytest.raises(SystemExit) as end:
            entry.run_script(script.main)
    return end.value.code


def name_of(script):
    """Returns what a user types to start a script."""
    return f"{script.__name__.rpartition('.')[2]}.py"


def start(folder, *argv, code=None, fresh=False, **environment):
    """Starts a real process: a script of the repository, or `python -c CODE`.

    Args:
      folder: where it runs.
      argv: its arguments.
      code: what it runs in place of a script.
      fresh: its interpreter is new; else the usual imports are already done.
      environment: variables that it has besides ours.
    """
    usual = {"PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    if careless.is_on():
        usual["XLA_FLAGS"] = careless.FLAGS
    environment = os.environ | usual | environment
    if not fresh:
        return launching.Process(folder, argv, code, environment)
    return subprocess.Popen(
        [sys.executable, *(("-c", code) if code is not None else ()), *argv],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_waiting(home, place, *argv):
    """Starts train.py and returns the process when it waits at a place."""
    code = WAIT.replace("PLACE", place)
    process = start(home, *argv, code=code)
    for line in process.stdout:
        if line == "waiting\n":
            return process
    raise AssertionError(process.stderr.read())


def finish(process, seconds=240):
    """Returns the exit code, stdout and stderr of a process."""
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def free_port():
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        return somebody.getsockname()[1]


@functools.cache
def tiny_run():
    """Returns a run with checkpoints 1 and 2, made once for all: do not change it."""
    from ppo_jax.cli import train

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(scratch("home"))
        how = ("--max_iterations=2", "--logger=none", "save_interval=1")
        assert call(train, *TINY, *how) == 0
        (run,) = (scratch("home") / folders.LOG_ROOT / "Cartpole").iterdir()
    return run


def tiny_trained(num_envs):
    """Returns a trainer of as many environments, and what the tiny run has learned."""
    from ppo_jax.cli import tasks
    from ppo_jax.runs import checkpoint, trainers

    trainer = tasks.make_trainer(folders.load_config(tiny_run()), num_envs)
    template = trainers.abstract_run(trainer).train
    return trainer, checkpoint.restore_train(tiny_run(), template).state


@functools.cache
def scratch(name):
    """Returns a folder that lives as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix=f"ppo_jax_{name}_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextmanager
def compilations_kept_in(folder):
    """Keeps what is compiled meanwhile in a folder of its own, and finds it there."""
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        compilation_cache.reset_cache()
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
        compilation_cache.reset_cache()
