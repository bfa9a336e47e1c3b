"""Tasks that other packages have, in a project with `envs` and `configs` of its own."""

import os
import subprocess
import sys

import pytest
from running import ROOT

TASKS = """
import envs
from envs.cartpole import Cartpole
from ppo_jax import Config

assert envs.make  # ours

class Reach(Cartpole):
    config = Config(num_envs=4, num_steps_per_env=8, max_iterations=1)

def reach():
    return Reach()

def broken():
    raise ValueError("no such robot")
"""


@pytest.fixture
def project(tmp_path):
    """A folder as a robotics project has it, and a package that is installed."""
    for name in ("envs", "configs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("WHOSE = 'theirs'\n")
    (tmp_path / "my_tasks.py").write_text(TASKS)
    info = tmp_path / "site" / "my_robot-1.0.dist-info"
    info.mkdir(parents=True)
    about = "Metadata-Version: 2.1\nName: my_robot\nVersion: 1\n"
    (info / "METADATA").write_text(about)
    named = "[ppo_jax.tasks]\nMy-Reach = my_tasks:reach\n"
    (info / "entry_points.txt").write_text(named)
    return tmp_path


def run(project, *argv):
    path = os.pathsep.join([str(ROOT), str(project / "site")])
    return subprocess.run(
        [sys.executable, "-m", "ppo_jax", *argv],
        cwd=project,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("task", ["my_tasks:reach", "My-Reach"])
def test_a_task_of_ones_own_is_trained_with_its_configuration(project, task):
    tiny = "actor.hidden_dims=[4]", "critic.hidden_dims=[4]", "num_mini_batches=1"
    ended = run(project, "train", "--task", task, "--logger=none", *tiny)
    assert ended.returncode == 0, ended.stderr
    assert f"{task}: 4 environments x 8 steps, 1 iterations" in ended.stdout
    assert "watch it        python -m ppo_jax play --checkpoint logs/" in ended.stdout


def test_tasks_of_others_are_listed(project):
    listed = run(project, "train", "--list").stdout
    assert "My-Reach             my_tasks:reach" in listed


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ("my_tasks:rech", "has no attribute 'rech'"),
        ("my_task:reach", "there is no task 'my_task:reach'"),
        ("My-Raech", "did you mean 'My-Reach'"),
        ("my_tasks:broken", "no such robot"),
    ],
)
def test_a_wrong_name_is_one_sentence(project, task, sentence):
    ended = run(project, "train", "--task", task)
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
