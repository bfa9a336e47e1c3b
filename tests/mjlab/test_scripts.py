"""The scripts on a real mjlab task, as a user types them."""

import re
from contextlib import closing

import imageio.v3 as imageio
import numpy as np
import pytest
import running
import yaml

pytest.importorskip("mjlab", reason="needs mjlab: uv sync --extra mjlab")

import torch

from ppo_jax.cli import play, sweep, train
from ppo_jax.cli.tasks import default_config, make_env
from ppo_jax.runs import checkpoint, metrics
from ppo_jax.runs.config_fields import override

torch.set_num_threads(1)

CARTPOLE = "mjlab:Mjlab-Cartpole-Balance"
ON_CPU = ("--task", CARTPOLE, "--device", "cpu")
SMALL = (*ON_CPU, "--num_envs", "8", "num_steps_per_env=4", "num_learning_epochs=1")
SHORT = ("--env.episode-length-s", "0.5")  # 10 steps, as mjlab's users type it


def only_run(home):
    (run,) = (home / "logs" / "ppo_jax" / "cartpole").iterdir()
    return run


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder in which a run of two iterations was trained."""
    home = tmp_path_factory.mktemp("home")
    changed = (*SHORT, "--agent.algorithm.gamma=0.97", "agent.save_interval=2")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert running.call(train, *SMALL, *changed, "--max_iterations", "2") == 0
    return home


@pytest.fixture(autouse=True)
def at_home(monkeypatch, home):
    monkeypatch.chdir(home)


def test_training_takes_mjlabs_agent_and_overrides(home):
    """The registered agent, `env.` and `agent.` in mjlab's form and in ours."""
    run = only_run(home)
    agent = yaml.safe_load((run / "params" / "agent.yaml").read_text())
    assert agent["task"] == CARTPOLE
    assert agent["actor"]["hidden_dims"] == [64, 64]
    assert agent["algorithm"]["gamma"] == 0.97
    assert agent["algorithm"]["entropy_coef"] == 0.01
    text = (run / "params" / "env.yaml").read_text()
    assert "episode_length_s: 0.5" in text
    assert "auto_reset: false" in text, "time-outs are exact unless asked otherwise"
    table = metrics.read_table(run)
    assert table["iteration"] == [0, 1]
    assert all(t > 0 for t in table["log/Perf/simulation_time"])
    assert checkpoint.iterations(run) == [2]


def test_resume_goes_on_without_gap_or_double(home, capfd):
    argv = ("--task", CARTPOLE, "--resume", "--max_iterations", "4")
    assert running.call(train, *argv) == 0
    assert re.search(r"Resuming .* at iteration 2", capfd.readouterr().out)
    run = only_run(home)
    assert metrics.read_table(run)["iteration"] == [0, 1, 2, 3]
    assert checkpoint.iterations(run) == [2, 4]


def test_playing_prints_and_films(tmp_path, capfd):
    """Whole episodes, no longer than in training, and a film that moves."""
    video = tmp_path / "cartpole.mp4"
    argv = ("--task", CARTPOLE, "--num_envs", "2")
    assert running.call(play, *argv, "--video", str(video)) == 0
    out = capfd.readouterr().out
    assert re.search(r"Return over 2 episodes: \d", out)
    assert "Episode length: 10.0 steps" in out
    assert "Active" not in out, "mjlab's tables are not on stdout"
    frames = np.stack(list(imageio.imiter(video)))
    assert len(frames) > 5
    assert frames[0].std() > 5, "the picture is empty"
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 30, "nothing moves"


@pytest.mark.parametrize("rule", ["auto", "final_obs", "last_value"])
def test_rsl_rls_rule_is_mjlabs_own_reset(rule):
    config = default_config(CARTPOLE)
    changes = {"timeout_bootstrap": rule, "simulator.device": "cpu", "num_envs": 2}
    with closing(make_env(override(config, changes))) as env:
        assert env.torch_env.has_final_obs == (rule != "last_value")
        assert env.torch_env.mjlab.cfg.auto_reset == (rule == "last_value")


def test_a_population_shares_one_simulator(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = (*SMALL, "--population", "2", "--seeds", "2", "--max_iterations", "2")
    assert running.call(sweep, *argv, *SHORT, "num_mini_batches=2") == 0
    from sweeping import table_of

    (folder,) = (tmp_path / sweep.SWEEPS).iterdir()
    assert "episode_length_s: 0.5" in (folder / "env.yaml").read_text()
    table = table_of(folder)
    first, second = table["loss"].reshape(2, 2)
    assert np.isfinite(table["loss"]).all()
    assert (first != second).all()
    assert table["env_steps"].tolist() == [16, 32] * 2
    assert (table["simulator/Perf/simulation_time"] > 0).all()


def test_nan_stops_the_run_and_is_named(tmp_path, monkeypatch, capfd):
    from ppo_jax.envs.mjlab_env import MjlabEnv

    monkeypatch.chdir(tmp_path)
    step = MjlabEnv.step

    def broken(self, action):
        if self.mjlab.common_step_counter == 6:  # in the second iteration
            self.mjlab.sim.data.qpos[5] = float("nan")
        return step(self, action)

    monkeypatch.setattr(MjlabEnv, "step", broken)
    assert running.call(train, *SMALL, "--max_iterations", "3", "--dump_nan") == 1
    out, err = capfd.readouterr()
    assert "in iteration 2 obs['actor'] of the environments [5] became NaN" in err
    dump = (out + err).split("play.py --dump_nan ")[-1].strip()
    assert running.call(play, "--dump_nan", dump, "--video", "back.mp4") == 0
    out = capfd.readouterr().out
    assert "mjlab, environments [5] of 8" in out
    qpos = [line.split()[1] for line in out.splitlines() if re.match(r" +\d+ ", line)]
    assert len(qpos) == 6 and qpos[-1] == "nan" and "nan" not in qpos[:-1]
    frames = np.stack(list(imageio.imiter("back.mp4")))
    assert len(frames) > 20 and frames[0].std() > 5


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("--task", "mjlab:Mjlab-Cartpole"), "did you mean 'Mjlab-Cartpole-"),
        (("--task", CARTPOLE), "torch sees no CUDA device: give device = 'cpu'"),
        ((*SMALL, "env.sceen.num_envs=4"), "did you mean 'scene'"),
        ((*SMALL, "--env.sim.mujoco.timestp", "0.1"), "did you mean 'timestep'"),
        ((*SMALL, "env.decimation=2.5"), "env.decimation = '2.5': give a whole number"),
        ((*SMALL, "env.decimation=none"), "give a whole number"),
        ((*SMALL, "env.scene=1"), "give a path inside it"),
        ((*SMALL, "--env.decimation"), "--env.decimation needs a value"),
        ((*SMALL, "agent.algorithm.gama=0.9"), "gamma"),
        ((*SMALL, "agent.num_envs=4"), "give --task NAME or --num_envs N"),
        ((*SMALL, "--agent", "rsl_rl_cfg"), "leave it away"),
        ((*SMALL, "physics=newton"), "no option 'physics'"),
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


def test_the_list_has_mjlabs_tasks(capfd):
    assert running.call(train, "--list") == 0
    assert f"  {CARTPOLE}\n" in capfd.readouterr().out
