"""Tasks on MJX, whose states hold arrays without elements: trained, resumed, played."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from running import call

from ppo_jax.cli import play, train
from ppo_jax.cli.tasks import make_trainer
from ppo_jax.runs import checkpoint, folders, trainers

pytestmark = pytest.mark.slow
SMALL = (
    *("--num_envs", "2", "--logger", "none", "num_steps_per_env=2"),
    *("num_mini_batches=1", "num_learning_epochs=1"),
    *("actor.hidden_dims=[4]", "critic.hidden_dims=[4]"),
)


def run_in(home):
    """Returns the one run in a folder."""
    (run,) = (home / folders.LOG_ROOT).glob("*/*")
    return run


def state_of(run):
    """Returns the newest checkpoint of a run: everything, as arrays, and its number."""
    config = folders.load_config(run)
    restored = checkpoint.restore_run(run, trainers.abstract_run(make_trainer(config)))

    def plain(x):
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    return jax.tree.map(plain, restored.state), restored.iteration


@pytest.mark.parametrize(
    ("task", "package"),
    [
        ("playground:CartpoleBalance", "mujoco_playground"),
    ],
)
def test_a_run_on_mjx_is_resumed_bit_for_bit_and_played(
    tmp_path, monkeypatch, task, package
):
    pytest.importorskip(package, reason=f"needs {package}")
    with jax.numpy_rank_promotion("allow"):  # theirs is not ours
        follow_a_run(task, tmp_path, monkeypatch)


def follow_a_run(task, tmp_path, monkeypatch):
    """Trains twice, once with an interruption, compares, and plays."""
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    for home, iterations in ((straight, 2), (stopped, 1)):
        home.mkdir()
        monkeypatch.chdir(home)
        words = "--task", task, *SMALL, f"--max_iterations={iterations}"
        assert call(train, *words) == 0
    assert call(train, "--task", task, "--resume", "--max_iterations=2") == 0
    expected, number = state_of(run_in(straight))
    assert number == 2
    assert any(x.size == 0 for x in jax.tree.leaves(expected.env_state))
    jax.tree.map(np.testing.assert_array_equal, state_of(run_in(stopped))[0], expected)

    assert call(play, "--task", task, "--num_envs", "2") == 0
