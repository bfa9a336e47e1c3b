"""Runs of Cartpole compared: all that they learned, and every curve."""

import csv

import jax
import numpy as np

from ppo_jax.cli.tasks import make_trainer
from ppo_jax.runs import checkpoint, folders, metrics, trainers

TIMING = {"seconds", "iteration_time", "steps_per_second"}


def run_in(home):
    (run,) = (home / folders.LOG_ROOT / "Cartpole").iterdir()
    return run


def rows_of(run):
    """What metrics.csv says, but for what a clock did."""
    with (run / metrics.TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in TIMING} for row in rows]


def learned_in(run):
    template = trainers.abstract_run(make_trainer(folders.load_config(run))).train
    restored = checkpoint.restore_train(run, template)
    return restored.iteration, jax.tree.map(np.asarray, restored.state)


def assert_same_runs(ours, wanted):
    """The newest checkpoints to the last bit, and losses, returns, learning rates."""
    jax.tree.map(np.testing.assert_array_equal, learned_in(ours), learned_in(wanted))
    assert rows_of(ours) == rows_of(wanted)
