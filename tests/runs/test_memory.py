"""A run with memory on a disk: nothing of it is lost when it goes on elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax.configs import config_for
from ppo_jax.envs import make
from ppo_jax.runs import checkpoint, trainers
from ppo_jax.runs.config_fields import override
from ppo_jax.runs.continuation import with_simulator, without_simulator

SMALL = {
    "num_envs": 6,
    "num_steps_per_env": 5,  # shorter than an episode: rollouts end amid them
    "algorithm.num_mini_batches": 2,
    "actor.rnn_hidden_dim": 4,
    "actor.rnn_num_layers": 2,
    "critic.rnn_hidden_dim": 4,
    "critic.rnn_type": "gru",
}


@pytest.fixture(scope="module")
def trainer():
    config = override(config_for("Recall"), SMALL)
    return trainers.make_trainer(config, make("Recall", config.num_envs))


def advance(trainer, run, count):
    copy = jax.tree.map(lambda x: x.copy(), run)  # the iteration donates its run
    for _ in range(count):
        copy, _ = trainer.iterate(copy, trainer.hparams)
    return copy


def plain(x):
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if is_key else x)


@pytest.mark.slow
def test_a_resumed_run_is_the_same_to_the_last_bit(trainer, tmp_path):
    """Amid episodes: without its memory it would be another run."""
    middle = advance(trainer, trainers.start(trainer), 3)
    assert all((x != 0).any() for x in jax.tree.leaves(middle.carry))
    checkpoint.save(tmp_path, middle, {"episode_return": None}, keep=1)
    restored = checkpoint.restore_run(tmp_path, trainers.abstract_run(trainer)).state
    wanted = advance(trainer, middle, 3)
    found = advance(trainer, restored, 3)
    for x, y in zip(*map(jax.tree.leaves, (wanted, found)), strict=True):
        np.testing.assert_array_equal(plain(y), plain(x))

    forgotten = jax.tree.map(jnp.zeros_like, restored.carry)
    other = advance(trainer, restored._replace(carry=forgotten), 3)
    params = (jax.tree.leaves(run.train.params) for run in (wanted, other))
    assert any(not np.array_equal(x, y) for x, y in zip(*params, strict=True))


@pytest.mark.slow
def test_new_episodes_of_a_simulator_begin_without_memory(trainer):
    """What only a simulator knows is not saved, nor what was remembered of it."""
    fresh = trainers.start(trainer)
    run = fresh._replace(carry=jax.tree.map(jnp.ones_like, fresh.carry))
    saved = without_simulator(run)
    assert saved.carry == ()
    resumed = with_simulator(saved, fresh)
    assert not any(x.any() for x in jax.tree.leaves(resumed.carry))
    assert jax.tree.structure(resumed.carry) == jax.tree.structure(run.carry)


def test_too_few_environments_for_whole_sequences_are_refused():
    with pytest.raises(ValueError, match="learns from whole environments"):
        override(config_for("Recall"), {"num_envs": 3})
