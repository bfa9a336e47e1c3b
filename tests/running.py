"""How tests run the scripts: in this process, or as real processes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ppo_jax import cli

ROOT = Path(__file__).parent.parent
TINY = (
    "--num_envs=8",
    "num_steps_per_env=4",
    "num_learning_epochs=1",
    "num_mini_batches=2",
    "actor.hidden_dims=[8]",
    "critic.hidden_dims=[8]",
)


def call(script, *argv):
    """Returns the exit code of a script's `main` as its command line would run it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{script.__name__}.py", *argv])
        patch.setattr(cli, "use_compilation_cache", lambda: None)
        with pytest.raises(SystemExit) as end:
            cli.run_script(script.main)
    return end.value.code


def start(folder, *argv, code=None, **environment):
    """Starts a real process: a script of the repository, or `python -c CODE`."""
    command = [sys.executable, *(("-c", code) if code else ()), *argv]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, seconds=240):
    """Returns the exit code, stdout and stderr of a process."""
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def copy_of(run, folder):
    """Returns a copy of a run's folder, to be damaged."""
    return Path(shutil.copytree(run, Path(folder) / "copy"))
