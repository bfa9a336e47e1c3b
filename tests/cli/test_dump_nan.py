"""`train.py --dump_nan` and `play.py --dump_nan`, on a task that breaks on purpose."""

import sys

import imageio.v3 as imageio
import jax
import numpy as np
import pytest
from running import TINY, call

from ppo_jax.cli import dumping, play, train
from ppo_jax.cli.tasks import default_config, make_trainer
from ppo_jax.runs import nan_dump
from ppo_jax.runs.config_fields import override

BREAKS_AT = 6  # steps of all together; an iteration of TINY has 4
BROKEN = f"""
from dataclasses import dataclass
import jax.numpy as jnp
from ppo_jax.envs.cartpole import Cartpole

@dataclass(frozen=True)
class Broken(Cartpole):
    def step(self, state, action, key, common_step):
        breaks = (common_step == {BREAKS_AT}) & (action[0] > 0)
        velocity = jnp.where(breaks, jnp.nan, state.pole_velocity)
        state = state._replace(pole_velocity=velocity)
        return super().step(state, action, key, common_step)
"""
TASK = ("--task", "breaking:Broken")


pytestmark = pytest.mark.slow  # all of them look at one run that broke


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """The folder in which a run has broken, its only dump, and what was said."""
    home = tmp_path_factory.mktemp("home")
    (home / "breaking.py").write_text(BROKEN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.syspath_prepend(home)
        argv = (*TASK, *TINY, "--max_iterations", "3", "--logger", "none")
        assert call(train, *argv, "--dump_nan") == 1
        (path,) = (home / "logs").rglob("*.npz")
        yield home, path
    sys.modules.pop("breaking", None)


@pytest.fixture(autouse=True)
def at_home(broken, monkeypatch):
    monkeypatch.chdir(broken[0])


def test_the_states_before_and_after_are_those_of_the_broken(broken):
    """Both iterations; a state, what was observed of it, and the action fit."""
    dump = nan_dump.load(broken[1])
    assert dump.about["task"] == TASK[1] and dump.about["num_envs"] == 8
    assert dump.reward.shape == (2 * 4, len(dump.env_ids))
    broke = BREAKS_AT - 1  # counted from 0
    assert 0 < len(dump.env_ids) < 8
    assert (dump.action[broke, :, 0] > 0).all()
    assert (nan_dump.bad_from(dump) == broke).all(), "its reward is the first"
    state = np.stack(list(dump.states.values())[:4], axis=-1)
    np.testing.assert_array_equal(state, dump.obs["policy"])
    is_finite = np.isfinite(state).all(axis=(1, 2))
    assert is_finite.tolist() == [True] * BREAKS_AT + [False] * 3
    names = nan_dump.not_finite_at(dump, BREAKS_AT, 0)
    assert "obs['policy']" in names and "reward" in names


def test_it_is_played_back_stepped_again_and_filmed(broken, capsys):
    assert call(play, "--dump_nan", str(broken[1]), "--video", "back.mp4") == 0
    out = capsys.readouterr().out
    assert f"from step {BREAKS_AT - 1} on reward" in out
    assert "became NaN or infinite" in out
    assert "Stepped again from each state, with its action: the same to the" in out
    frames = np.stack(list(imageio.imiter("back.mp4")))
    assert len(frames) == BREAKS_AT - 1, "the states up to where something is wrong"
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 30, "nothing moves"


def test_what_is_not_the_same_is_said(broken, tmp_path, capsys):
    """A state that the step before does not lead to."""
    dump = nan_dump.load(broken[1])
    next(iter(dump.states.values()))[2] += 0.5
    nan_dump.save(tmp_path, dump)
    path = tmp_path / nan_dump.FOLDER / broken[1].name
    assert call(play, "--dump_nan", str(path)) == 0
    assert "apart by up to 0.5" in capsys.readouterr().out


def test_a_resumed_run_keeps_them_too(broken, capsys):
    argv = (*TASK, *TINY, "--logger", "none", "--save_interval", "1")
    assert call(train, *argv, "--max_iterations", "1") == 0
    assert call(train, *TASK, "--resume", "--max_iterations", "3", "--dump_nan") == 1
    said = capsys.readouterr().err
    assert "in iteration 2 " in said and "can be played back: " in said
    dump = nan_dump.load(said.split("--dump_nan ")[-1].strip())
    assert dump.reward.shape[0] == 4, "the iteration of this process"
    assert (nan_dump.bad_from(dump) == BREAKS_AT - 1 - 4).all()


def test_nothing_is_kept_unless_it_is_asked_for():
    """The program returns no states, and whoever finds the NaN has nothing to say."""
    config = override(default_config("Cartpole"), {"num_envs": 4})
    for is_asked in (False, True):
        trainer = make_trainer(config, dump_nan=is_asked)
        run = jax.eval_shape(trainer.init, jax.random.key(0))
        _, metrics = jax.eval_shape(trainer.iterate, run, trainer.hparams)
        assert ("trail" in metrics) == is_asked
    assert dumping.on_nan(trainer, None, {})(None, [], None) == ""


@pytest.mark.parametrize(
    ("script", "argv", "sentence"),
    [
        (train, ("--dump_nan", "check_for_nan=false"), "leave one of them away"),
        (
            train,
            ("--dump_nan", "--devices=2"),
            "environments of one device in one process",
        ),
        (train, ("--dump_nan", "--num_processes=2"), "of one device in one process"),
        (play, ("--dump_nan", "gone.npz"), "gone.npz: there is no such file"),
        (play, ("--dump_nan", "breaking.py"), "is no file that train.py --dump_nan"),
        (play, ("--dump_nan", "x.npz", "--seed", "3"), "has no use for seed"),
    ],
)
def test_mistakes_are_a_sentence(script, argv, sentence, capsys):
    assert call(script, *argv) == 2
    assert sentence in capsys.readouterr().err
