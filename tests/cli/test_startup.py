"""A command that only reads does not wait for JAX."""

import gc
import os
import subprocess
import sys

import pytest
from running import ROOT

from ppo_jax.cli import entry

# As if JAX, and what needs it, were not installed.
WITHOUT_JAX = """
import runpy, sys
sys.modules |= dict.fromkeys(("jax", "jaxlib", "numpy", "flax", "optax", "chex"))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def start(*argv):
    """Runs a script where nothing can import JAX."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_JAX, *argv],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["train.py", "--help"], "learning_rate="),
        (["train.py", "--task", "Franka-Lift", "--help"], "of Franka-Lift"),
        (["train.py", "--list"], "Franka-Reach-Pose"),
        (["play.py", "--help"], "--export FILE"),
        (["sweep.py", "--help"], "--perturbation_interval"),
        (["ppo_jax/__main__.py", "report", "--help"], "report.html"),
        (["ppo_jax/__main__.py", "compare", "--help"], "--out FILE"),
    ],
)
def test_help_and_list_need_no_jax(argv, words):
    ended = start(*argv)
    assert ended.returncode == 0, ended.stderr
    assert words in ended.stdout


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["train.py", "gama=0.9"], "did you mean 'gamma'"),
        (["train.py", "gamma=2"], "gamma = 2"),
        (["train.py", "--task", "Franka-Raech"], "did you mean 'Franka-Reach'"),
        (["train.py", "actor.activation=eluu"], "did you mean 'elu'"),
        (["train.py", "--resume", "--checkpoint", "nowhere"], "no such file"),
        (["play.py", "--num_envs", "0"], "num_envs = 0"),
        (["play.py", "--checkpoint", "nowhere"], "no such file"),
        (["sweep.py", "gama=0.9,0.95"], "did you mean 'gamma'"),
    ],
)
def test_a_mistake_is_said_before_jax_is_loaded(argv, sentence):
    ended = start(*argv)
    assert ended.returncode == 2
    assert sentence in ended.stderr


def test_garbage_is_looked_for_again_but_not_among_what_is_there():
    """Once a command has built what it trains, see `open_trainer`."""
    before = gc.get_freeze_count()
    gc.disable()
    kept = [[] for _ in range(1000)]
    entry.collect_again()
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(kept)
