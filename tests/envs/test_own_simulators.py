"""Simulators of one's own: the page's, and Gymnasium's vector environments."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import imageio.v3 as imageio
import jax
import numpy as np
import pytest
import running

torch = pytest.importorskip("torch", reason="the bridge needs torch")
gymnasium = pytest.importorskip("gymnasium", reason="needs gymnasium")
pytest.importorskip("array_api_compat", reason="needs array-api-compat")

from walking import DRIVERS, assert_equal_trees, walk  # noqa: E402

from ppo_jax.cli import play, train  # noqa: E402
from ppo_jax.envs.bridge import bridge  # noqa: E402
from ppo_jax.envs.gymnasium_torch import GymnasiumTorchEnv  # noqa: E402
from ppo_jax.envs.own_simulators import make_own_env  # noqa: E402
from ppo_jax.runs import checkpoint, metrics, nan_dump  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "simulators.md"
OWN, GYM = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
TINY = ("num_steps_per_env=16", "num_learning_epochs=2", "actor.hidden_dims=[16]")


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    """The page's two programs as files of a user's folder."""
    (tmp_path / "points.py").write_text(OWN)
    (tmp_path / "swinging.py").write_text(GYM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("points", "swinging", "breaking"):
        sys.modules.pop(name, None)


def test_the_page_builds_a_simulator_that_learns(tmp_path, capfd):
    """In under 60 lines; trained, gone on with and played as the page says."""
    assert len(OWN.splitlines()) < 60
    task = ("--task", "torch:points:make")
    argv = (*task, "--device", "cpu", "--num_envs", "128", "env.push=0.3", *TINY)
    assert running.call(train, *argv, "--max_iterations", "20") == 0
    (run,) = (tmp_path / "logs" / "ppo_jax" / "make").iterdir()
    assert running.call(train, *task, "--resume", "--max_iterations", "21") == 0
    table = metrics.read_table(run)
    assert table["iteration"] == list(range(21))
    mean = np.divide(table["episode_return"], table["episode_length"])  # of a step
    assert mean[-1] > mean[:3].mean() + 0.15, "it has learned to come to the middle"
    capfd.readouterr()
    assert running.call(play, *task, "--num_envs", "4") == 0
    assert "Return over 4 episodes" in capfd.readouterr().out


BREAKING = """
import torch
from points import Points

class Breaking(Points):
    count = 0

    def step(self, action):
        self.count += 1
        if self.count == 21:  # in the second iteration
            self.place = self.place.clone()
            self.place[3] = float("nan")
        return super().step(action)

    def states(self):
        return {"place": self.place, "length": self.length}

    def set_states(self, states):
        self.place = torch.as_tensor(states["place"])

    def frame(self):
        picture = torch.zeros(64, 64, 3, dtype=torch.uint8)
        x, y = (32 + 8 * self.place[0].clamp(-3, 3)).int().tolist()
        picture[y - 4 : y + 4, x - 4 : x + 4] = 255
        return picture.numpy()
"""


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_led_to_a_nan_is_played_back(tmp_path, capfd, driver):
    """The states that the class tells, in time with what was observed of them."""
    (tmp_path / "breaking.py").write_text(BREAKING)
    task = ("--task", "torch:breaking:Breaking", "--device", "cpu", "--bridge", driver)
    argv = (*task, "--num_envs", "8", *TINY, "--max_iterations", "3")
    assert running.call(train, *argv, "--dump_nan") == 1
    (path,) = (tmp_path / "logs").rglob("*.npz")
    dump = nan_dump.load(path)
    assert dump.env_ids.tolist() == [3] and dump.reward.shape == (32, 1)
    place = dump.states["place"]
    np.testing.assert_array_equal(place, dump.obs["policy"])
    bad = 20  # counted from 0: its reward is the first
    assert nan_dump.bad_from(dump).tolist() == [bad]
    assert np.isfinite(place[: bad + 1]).all() and np.isnan(place[bad + 1]).all()
    moved = place[:bad] + 0.2 * np.clip(dump.action[:bad], -1, 1)
    going_on = ~dump.done[:bad, 0]
    np.testing.assert_allclose(place[1:21][going_on], moved[going_on], atol=1e-6)
    capfd.readouterr()
    argv = ("--dump_nan", str(path), "--device", "cpu", "--video", "back.gif")
    assert running.call(play, *argv) == 0
    assert f"from step {bad} on reward" in capfd.readouterr().out
    assert len(list(imageio.imiter("back.gif"))) == bad


def test_a_simulator_that_does_not_tell_its_state_says_so(capfd):
    argv = ("--task", "torch:points:make", "--device", "cpu", "--dump_nan")
    assert running.call(train, *argv) == 2
    assert "Points has no method `states`" in capfd.readouterr().err


@pytest.mark.parametrize("driver", DRIVERS)
def test_gymnasiums_pendulum_is_what_gymnasium_steps(driver):
    """The real one, of torch tensors, with ends: stepped by hand it is the same."""
    env = make_own_env("gymnasium-torch:swinging:make", 3, driver=driver)
    obs, timesteps = walk(env, 203)  # episodes of 200 steps
    assert timesteps.truncated.all(axis=1).nonzero()[0].tolist() == [199]
    same = (timesteps.final_obs["policy"] == timesteps.obs["policy"]).all(axis=-1)
    np.testing.assert_array_equal(same, ~timesteps.truncated)

    reset_key, _, action_key = jax.random.split(jax.random.key(0), 3)
    seed = jax.random.randint(reset_key, (), 0, np.iinfo(np.int32).max, "int32")
    actions = np.asarray(jax.random.normal(action_key, (203, 3, 1)))
    plain = gymnasium.make_vec("Pendulum-v1", 3, "sync")
    np.testing.assert_array_equal(plain.reset(seed=int(seed))[0], obs["policy"])
    for step in range(200):
        expected, reward, *_ = plain.step(actions[step])
        np.testing.assert_array_equal(timesteps.final_obs["policy"][step], expected)
        np.testing.assert_allclose(timesteps.reward[step], reward, rtol=1e-6)
    env.close()


UNEQUAL = """
import os, pathlib, time
from points import Points

RANK = os.environ["RANK"]

class Unequal(Points):
    count = 0

    def reset(self, seed):
        pathlib.Path(f"seed_{RANK}").write_text(str(seed))
        return super().reset(seed)

    def step(self, action):
        self.count += 1
        if RANK == "1" and self.count == SLOW:
            time.sleep(3)
        assert RANK == "0" or self.count < BAD, "the second robot fell off the table"
        return super().step(action)
"""
# Notes what each process has learned where both are compared, at every save.
NOTING = """
import os, pathlib, sys
from ppo_jax.cli import entry, train
from ppo_jax.loops.shards import fingerprint
from ppo_jax.runs import devices

compare = devices.require_equal

def compare_and_note(mesh, train):
    compare(mesh, train)
    assert devices.size(mesh) == 2
    number = int(fingerprint(devices.here(mesh, train)))
    with open(f"learned_{os.environ['RANK']}", "a") as file:
        file.write(f"{number}\\n")

devices.require_equal = compare_and_note
sys.argv[0] = "train.py"
entry.run_script(train.main)
"""


def train_in_two_processes(home, slow, bad):
    """Two iterations of 16 steps, each process with a simulator of its own."""
    text = UNEQUAL.replace("SLOW", str(slow)).replace("BAD", str(bad))
    (home / "unequal.py").write_text(text)
    argv = ("--task=torch:unequal:Unequal", "--device=cpu", "--num_envs=4", *TINY)
    argv += ("--num_processes=2", "--max_iterations=2", "save_interval=1")
    process = running.start(home, *argv, "--seed=3", code=NOTING, fresh=True)
    try:
        return running.finish(process, seconds=480)
    finally:
        process.kill()


def test_simulators_in_two_processes_learn_one_policy(tmp_path):
    """Steps of both count, seeds differ, what is learned does not; a slow one waits."""
    code, out, err = train_in_two_processes(tmp_path, slow=20, bad=1000)
    assert code == 0, (out, err)
    assert "Trained 2 iterations (256 steps)" in out  # 2 * 2 processes * 4 * 16
    seeds, learned = (
        [(tmp_path / f"{name}_{rank}").read_text() for rank in (0, 1)]
        for name in ("seed", "learned")
    )
    assert seeds[0] != seeds[1]
    assert learned[0] == learned[1]
    assert len(set(learned[0].splitlines())) == 2, "each save is of other weights"


def test_an_exception_in_one_simulator_ends_both_with_its_sentence(tmp_path):
    code, out, err = train_in_two_processes(tmp_path, slow=0, bad=20)
    assert code == 1, (out, err)
    assert "AssertionError: the second robot fell off the table" in err
    assert "another process has ended" in err
    (run,) = (tmp_path / "logs" / "ppo_jax" / "Unequal").iterdir()
    assert checkpoint.iterations(run) == [1], "what was saved is kept"


def test_gymnasiums_environments_are_trained_from_the_command_line(tmp_path):
    task = ("--task", "gymnasium-torch:swinging:make", "--device", "cpu")
    argv = (*task, "--num_envs", "4", *TINY, "--max_iterations", "2")
    assert running.call(train, *argv) == 0
    (run,) = (tmp_path / "logs" / "ppo_jax" / "make").iterdir()
    assert np.isfinite(metrics.read_table(run)["loss"]).all()


class SameStep:
    """Counters in ManiSkill's form: they reset themselves, and say what was before."""

    num_envs, max_episode_steps = 4, 3
    single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))

    def __init__(self, says="final_observation", mode="SAME_STEP"):
        self.says, self.metadata = says, {"autoreset_mode": mode}
        self.elapsed_steps = torch.zeros(4, dtype=torch.int32)

    def reset(self, seed=None):
        self.elapsed_steps[:] = 0
        return self.observe(), {}

    def step(self, action):
        self.elapsed_steps += 1
        done = self.elapsed_steps >= self.max_episode_steps
        before = self.observe()
        self.elapsed_steps[done] = 0
        episode = {"success": self.elapsed_steps == 0}
        info = {self.says: before, "final_info": {"episode": episode}}
        none = torch.zeros(4, dtype=torch.bool)
        return self.observe(), torch.ones(4, 1), none, done, info if done.any() else {}

    def observe(self):
        return {"agent": {"steps": self.elapsed_steps[:, None].float().clone()}}


def test_environments_that_reset_themselves_say_what_was_before():
    env = GymnasiumTorchEnv(SameStep())
    walks = [walk(bridge(env, driver), 5, random_lengths=True) for driver in DRIVERS]
    assert_equal_trees(*walks)
    _, timesteps = walks[0]
    before = timesteps.final_obs["agent/steps"][..., 0]
    after = timesteps.obs["agent/steps"][..., 0]
    assert (before[timesteps.truncated] == 3.0).all()
    assert (after[timesteps.truncated] == 0.0).all()
    np.testing.assert_array_equal(
        before[~timesteps.truncated], after[~timesteps.truncated]
    )
    assert env.drain_log() == {"Metrics/success": 1.0}
    last_value = GymnasiumTorchEnv(SameStep(), has_final_obs=False)
    assert walk(bridge(last_value), 4)[1].final_obs is None


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: SameStep(mode="NEXT_STEP"), "SAME_STEP or DISABLED"),
        (lambda: SameStep(says="nothing"), "give timeout_bootstrap = last_value"),
    ],
)
def test_what_cannot_be_told_is_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        walk(bridge(GymnasiumTorchEnv(make())), 4)


@pytest.mark.parametrize(
    ("task", "overrides", "sentence"),
    [
        ("torch:points:mak", (), "cannot be loaded"),
        ("torch:nowhere:make", (), "cannot be loaded"),
        ("torch:points:make", ("env.pull=1",), "pull"),
        ("torch:points:make", ("push=1",), "give env.name=value"),
    ],
)
def test_user_mistakes_are_one_sentence(task, overrides, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_own_env(task, 4, overrides=overrides)


def test_a_simulator_without_lengths_says_so():
    env = GymnasiumTorchEnv(SameStep())
    env.env = SimpleNamespace()
    with pytest.raises(ValueError, match="give init_at_random_ep_len = false"):
        env.set_episode_length(torch.zeros(4))
