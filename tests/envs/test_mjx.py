"""Tasks on MJX, whose states hold arrays without elements: from training to sweeps."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from running import call

from ppo_jax.cli import play, sweep, train
from ppo_jax.cli.tasks import make_trainer
from ppo_jax.runs import checkpoint, folders, trainers

pytestmark = pytest.mark.slow
SMALL = (
    *("--num_envs", "2", "num_steps_per_env=2"),
    *("num_mini_batches=1", "num_learning_epochs=1"),
    *("actor.hidden_dims=[4]", "critic.hidden_dims=[4]"),
)


def run_in(home):
    """Returns the one run in a folder, beside any sweeps."""
    (config,) = (home / folders.LOG_ROOT).glob(f"*/*/{folders.CONFIG_FILE}")
    return config.parents[1]


def template_of(run):
    """Returns the shapes of all that a run's checkpoints hold."""
    return trainers.abstract_run(make_trainer(folders.load_config(run)))


def state_of(run, template):
    """Returns the newest checkpoint of a run: everything, as arrays, and its number."""
    restored = checkpoint.restore_run(run, template)

    def plain(x):
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    return jax.tree.map(plain, restored.state), restored.iteration


@pytest.fixture(
    params=[
        ("playground:CartpoleBalance", "mujoco_playground"),
        ("brax:inverted_pendulum:mjx", "brax"),
    ],
    ids=["playground", "brax"],
)
def task(request):
    task, package = request.param
    pytest.importorskip(package, reason=f"needs {package}")
    with jax.numpy_rank_promotion("allow"):  # theirs is not ours
        yield task


def test_a_run_is_resumed_bit_for_bit_and_played(tmp_path, monkeypatch, task):
    """From its first save, in a copy that has lost the second."""
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    straight.mkdir()
    monkeypatch.chdir(straight)
    argv = ("--task", task, "--logger=none", *SMALL, "save_interval=1")
    assert call(train, *argv, "--max_iterations=2") == 0
    template = template_of(run_in(straight))
    expected, number = state_of(run_in(straight), template)
    assert number == 2
    assert any(x.size == 0 for x in jax.tree.leaves(expected.env_state))

    shutil.copytree(straight, stopped)
    (lost,) = run_in(stopped).glob("checkpoints/2")
    shutil.rmtree(lost)
    assert checkpoint.iterations(run_in(stopped)) == [1]
    monkeypatch.chdir(stopped)
    assert call(train, "--task", task, "--resume", "--max_iterations=2") == 0
    resumed, _ = state_of(run_in(stopped), template)
    jax.tree.map(np.testing.assert_array_equal, resumed, expected)

    assert call(play, "--task", task, "--num_envs", "2") == 0


def test_a_sweep_goes_to_its_end_and_gives_away_a_member(tmp_path, monkeypatch, task):
    monkeypatch.chdir(tmp_path)
    assert call(sweep, "--task", task, *SMALL, "--max_iterations=1", "--seeds=2") == 0
    assert call(sweep, "--export", "1") == 0
    run = run_in(tmp_path)
    state, number = state_of(run, template_of(run))
    assert number == 1
    assert any(x.size == 0 for x in jax.tree.leaves(state.env_state))
