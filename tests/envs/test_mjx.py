"""Tasks on MJX, whose states hold arrays without elements: from training to sweeps."""

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


def state_of(run):
    """Returns the newest checkpoint of a run: everything, as arrays, and its number."""
    config = folders.load_config(run)
    restored = checkpoint.restore_run(run, trainers.abstract_run(make_trainer(config)))

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
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    for home, iterations in ((straight, 2), (stopped, 1)):
        home.mkdir()
        monkeypatch.chdir(home)
        last = f"--max_iterations={iterations}"
        assert call(train, "--task", task, "--logger=none", *SMALL, last) == 0
    assert call(train, "--task", task, "--resume", "--max_iterations=2") == 0
    expected, number = state_of(run_in(straight))
    assert number == 2
    assert any(x.size == 0 for x in jax.tree.leaves(expected.env_state))
    jax.tree.map(np.testing.assert_array_equal, state_of(run_in(stopped))[0], expected)

    assert call(play, "--task", task, "--num_envs", "2") == 0


def test_a_sweep_goes_to_its_end_and_gives_away_a_member(tmp_path, monkeypatch, task):
    monkeypatch.chdir(tmp_path)
    assert call(sweep, "--task", task, *SMALL, "--max_iterations=1", "--seeds=2") == 0
    assert call(sweep, "--export", "1") == 0
    state, number = state_of(run_in(tmp_path))
    assert number == 1
    assert any(x.size == 0 for x in jax.tree.leaves(state.env_state))
