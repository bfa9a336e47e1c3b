"""Playing step by step is playing whole episodes, looked at more closely."""

from functools import partial

import jax
import numpy as np
import pytest
import running

from ppo_jax.loops import evaluation, playing

N = 4


@pytest.fixture(scope="module")
def trained():
    return running.tiny_trained(N)


@pytest.mark.slow
def test_the_first_episodes_are_those_of_evaluate(trained):
    """Same key, same episodes: what was summed when each ended is its return."""
    trainer, learned = trained
    ppo, env, key = trainer.ppo, trainer.env, jax.random.key(7)
    advance = jax.jit(partial(playing.advance, ppo, env, env.reward_terms, learned))
    moment = playing.begin(ppo, env, key)
    returns, lengths = np.full(N, np.nan), np.zeros(N)
    for _ in range(env.max_episode_length):
        lengths += np.isnan(returns)
        moment, reward = advance(moment)
        is_first = np.isnan(returns)
        returns[is_first] = np.asarray(moment.last_return)[is_first]
        if np.isnan(returns).all():
            length = np.asarray(moment.episode_length)
            np.testing.assert_array_equal(length, lengths)
            np.testing.assert_allclose(
                sum(reward.terms.values()), reward.total, atol=1e-5
            )
    result = jax.jit(evaluation.evaluate, static_argnums=(0, 1))(ppo, env, learned, key)
    np.testing.assert_allclose(returns, result.episode_return, rtol=1e-5)
    np.testing.assert_array_equal(lengths, result.episode_length)
