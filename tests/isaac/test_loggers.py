"""Loggers that were written for rsl_rl, as they are: its W&B writer, and torch's."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ppo_jax.runs.loggers import beside, wandb_files

pytest.importorskip("rsl_rl", reason="needs Isaac Lab: uv sync --extra isaaclab")


pytestmark = pytest.mark.usefixtures("patience")


VALUES = {"Loss/value": 0.5, "Policy/kl": 0.25}


def log(run, name):
    """Logs three iterations; returns the sentences that were said."""
    notes = []
    config = {"task": "Isaac-Cartpole-Direct", "seed": 7, "wandb_project": "arms"}
    logger = beside.start_logger(name, run, 0, config, notes.append)
    for step in range(3):
        logger.write(step, {tag: x + step for tag, x in VALUES.items()})
    logger.close()
    return notes


def curves(run):
    events = EventAccumulator(str(run))
    events.Reload()
    return {tag: [(x.step, x.value) for x in events.Scalars(tag)] for tag in VALUES}


EXPECTED = {tag: [(step, x + step) for step in range(3)] for tag, x in VALUES.items()}


def test_torch_writes_events(tmp_path):
    assert log(tmp_path, "torch.utils.tensorboard:SummaryWriter") == []
    assert curves(tmp_path) == EXPECTED


def test_rsl_rl_writes_to_wandb(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs the extra wandb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert log(tmp_path, "rsl_rl.utils.wandb_log_writer:WandbLogWriter") == []
    assert curves(tmp_path) == EXPECTED
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    rows = list(wandb_files.history(path))
    for tag, points in EXPECTED.items():
        assert [(int(x["_step"]), json.loads(x[tag])) for x in rows] == points
