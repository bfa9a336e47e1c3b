"""The scripts on real Isaac Lab tasks, as a user types them: real processes."""

import json
import re

import imageio.v3 as imageio
import numpy as np
import onnxruntime
import pytest
import running
import yaml
from isaac_scripts import MINUTES, SMALL, TASK, call

pytest.importorskip("isaaclab", reason="needs Isaac Lab: uv sync --extra isaaclab")

import torch

from ppo_jax.cli import train
from ppo_jax.runs import checkpoint, metrics

SIZE = ("--num_envs", "8", "--seed", "3", "agent.save_interval=2")


def only_run(home, experiment):
    (run,) = (home / "logs" / "ppo_jax" / experiment).iterdir()
    return run


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder in which a run of two iterations was trained."""
    home = tmp_path_factory.mktemp("home")
    overrides = ("env.episode_length_s=1.0", "agent.algorithm.gamma=0.97")
    argv = (*SMALL, *SIZE, *overrides, "--max_iterations", "2")
    out, _ = call(home, "train.py", *argv, fresh=True)
    assert "Trained 2 iterations" in out
    return home


def test_training_takes_isaac_labs_agent_and_overrides(home):
    """The registered rsl_rl agent, `env.` and `agent.` as in Isaac Lab."""
    run = only_run(home, "cartpole_direct")
    agent = yaml.safe_load((run / "params" / "agent.yaml").read_text())
    assert agent["num_steps_per_env"] == 16
    assert agent["actor"]["hidden_dims"] == [32, 32]
    assert agent["algorithm"]["gamma"] == 0.97
    assert agent["algorithm"]["entropy_coef"] == 0.005
    assert agent["seed"] == 3
    assert "episode_length_s: 1.0" in (run / "params" / "env.yaml").read_text()
    manifest = json.loads((run / "run.json").read_text())
    assert manifest["library"] == "ppo_jax"
    assert manifest["task"] == TASK
    assert manifest["metadata"]["agent"] == "rsl_rl_cfg_entry_point"
    table = metrics.read_table(run)
    assert table["iteration"] == [0, 1]
    assert all(t > 0 for t in table["log/Perf/simulation_time"])
    assert checkpoint.iterations(run) == [2]


def test_resume_goes_on_in_a_new_simulator(home):
    """Without gap or double, learning goes on; the environments start anew."""
    out, _ = call(home, "train.py", "--task", TASK, "--resume", "--max_iterations", "4")
    assert re.search(r"Resuming .* at iteration 2", out)
    run = only_run(home, "cartpole_direct")
    assert metrics.read_table(run)["iteration"] == [0, 1, 2, 3]
    assert checkpoint.iterations(run) == [2, 4]


@pytest.mark.parametrize("bridge", ["in_jit", "host"])
def test_playing_prints_and_films(home, tmp_path, bridge):
    """Returns of whole episodes, and a video that moves."""
    video = tmp_path / "cartpole.mp4"
    argv = ("--task", TASK, "--num_envs", "2", "--bridge", bridge, "--video", video)
    out, _ = call(home, "play.py", *map(str, argv))
    assert re.search(r"Return over 2 episodes: -?\d", out)
    frames = np.stack(list(imageio.imiter(video)))
    assert len(frames) > 5
    assert frames[0].std() > 5, "the picture is empty"
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 30, "nothing moves"


def test_isaac_lab_starts_us(tmp_path):
    """`isaaclab train --rl_library ppo_jax`, through the entry point."""
    argv = ["--rl_library", "ppo_jax", *SMALL, *SIZE, "--max_iterations", "1"]
    argv += ["physics=newton_mjwarp"]
    code = f"from isaaclab.cli import train; train({argv})"
    process = running.start(tmp_path, code=code, fresh=True)
    status, out, err = running.finish(process, MINUTES)
    assert status == 0, (out, err[-3000:])
    assert "Trained 1 iterations" in out
    assert checkpoint.iterations(only_run(tmp_path, "cartpole_direct")) == [1]


def test_isaac_labs_third_verb_exports(home):
    """`isaaclab leapp export`, with what the task knows of the robot in the file."""
    argv = ["export", "--rl_library", "ppo_jax", "--task", TASK, "--device", "cpu"]
    code = f"from isaaclab.cli import leapp; leapp({argv})"
    process = running.start(home, code=code, fresh=True)
    status, out, err = running.finish(process, MINUTES)
    assert status == 0, (out, err[-3000:])
    path = only_run(home, "cartpole_direct") / "exported" / "policy.onnx"
    assert "It acts as the policy does, within " in out
    session = onnxruntime.InferenceSession(path)
    assert [x.name for x in session.get_inputs()] == ["obs"]
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["joint_names"] == "slider_to_cart,cart_to_pole"
    assert facts["task"] == TASK
    assert float(facts["step_dt"]) == pytest.approx(1 / 60)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("--task", "Isaac-Cartpol-Direct"), "did you mean 'Isaac-Cartpole-Direct'"),
        (("--task", TASK), "torch sees no CUDA device: give device = 'cpu'"),
        ((*SMALL, "env.sceen.num_envs=4"), "env.sceen"),
        ((*SMALL, "agent.algorithm.gama=0.9"), "gamma"),
        ((*SMALL, "--agent", "rsl_rl_cfg"), "did you mean 'rsl_rl_cfg_entry_point'"),
        ((*SMALL, "--bridge", "jit"), "one of auto, in_jit, host"),
        (("--task", "Cartpole", "--device", "cpu"), "leave device"),
        (("--task", "Isaac-Pendulum-MARL-Direct", "--device", "cpu"), "skrl"),
    ],
)
def test_user_mistakes_are_one_sentence(tmp_path, monkeypatch, capfd, argv, sentence):
    if "CUDA" in sentence and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.chdir(tmp_path)
    assert running.call(train, *argv) == 2
    _, err = capfd.readouterr()
    (line,) = [x for x in err.splitlines() if x.startswith("train.py: ")]
    assert sentence in line
    assert not (tmp_path / "logs").exists()
