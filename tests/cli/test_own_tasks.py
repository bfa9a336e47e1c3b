"""Tasks that other packages have, in a project with `envs` and `configs` of its own.

Ours is the checkout, or what PPO_JAX_INSTALLED is the Python of: CI installs the wheel.
"""

import os
import subprocess
import sys
from pathlib import Path

import careless
import pytest
from running import ROOT

INSTALLED = os.environ.get("PPO_JAX_INSTALLED")
TINY = "actor.hidden_dims=[4]", "critic.hidden_dims=[4]", "num_mini_batches=1"
TASKS = """
import configs
import envs
import envs.arm
from ppo_jax import Config
from ppo_jax.envs.cartpole import Cartpole

assert envs.WHOSE == configs.WHOSE == envs.arm.WHOSE == "theirs"

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
        for module in ("__init__", "arm"):
            (tmp_path / name / f"{module}.py").write_text("WHOSE = 'theirs'\n")
    (tmp_path / "my_tasks.py").write_text(TASKS)
    info = tmp_path / "site" / "my_robot-1.0.dist-info"
    info.mkdir(parents=True)
    about = "Metadata-Version: 2.1\nName: my_robot\nVersion: 1\n"
    (info / "METADATA").write_text(about)
    named = "[ppo_jax.tasks]\nMy-Reach = my_tasks:reach\n"
    (info / "entry_points.txt").write_text(named)
    return tmp_path


def run(project, *argv, way=("-m", "ppo_jax")):
    """Runs a command in a project that has the packages of its folder `site`."""
    ours = [] if INSTALLED else [str(ROOT)]
    flags = careless.FLAGS_OF_ANY if INSTALLED else careless.FLAGS
    return subprocess.run(
        [INSTALLED or sys.executable, *way, *argv],
        cwd=project,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*ours, str(project / "site")]),
            "XLA_FLAGS": flags,
        },
        capture_output=True,
        text=True,
    )


def way_of(kind, command):
    """How a command is started: as a module, by the console script, by our script."""
    if kind == "module":
        return "-m", "ppo_jax", command
    if kind == "script":
        return (str(ROOT / f"{command}.py"),)
    if INSTALLED:
        return str(Path(INSTALLED).with_name("ppo-jax")), command
    # What pip makes of the entry point: its own folder stands first, not the project.
    program = "import sys; sys.argv[0] = 'ppo-jax'; import ppo_jax.cli.main as command"
    return "-P", "-c", f"{program}; command.main()", command


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["module", "command", "script"])
def test_each_command_works_and_leaves_the_project_its_packages(project, kind):
    """The task asserts whose they are, in the process of the command."""
    if kind == "script" and INSTALLED:
        pytest.skip("a wheel has no scripts at its top")
    task = "--task", "my_tasks:reach"
    commands = [("train", *task, "--logger=none", *TINY)]
    if kind == "module":
        commands += [
            ("play", *task, "--num_envs=2"),
            ("sweep", *task, "--seeds=2", "--max_iterations=1", *TINY),
            ("export", *task, "--export=policy.onnx"),
        ]
    for command, *argv in commands:
        ended = run(project, *argv, way=way_of(kind, command))
        assert ended.returncode == 0, (command, ended.stderr, ended.stdout)
    assert kind != "module" or (project / "policy.onnx").stat().st_size


@pytest.mark.slow
def test_a_run_of_before_finds_what_was_ours_at_the_top(project):
    """Its configuration says envs.cartpole, of which the project has none."""
    mirrored = "symmetry_cfg.data_augmentation_func=envs.cartpole:mirrored"
    task = "--task", "envs.cartpole:Cartpole", "--num_envs=4", "--num_steps_per_env=8"
    argv = *task, mirrored, "symmetry_cfg.use_data_augmentation=true", *TINY
    ended = run(project, "train", *argv, "--logger=none", "--max_iterations=1")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("task", ["my_tasks:reach", "My-Reach"])
def test_a_task_of_ones_own_is_trained_with_its_configuration(project, task):
    ended = run(project, "train", "--task", task, "--logger=none", *TINY)
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
