"""A task that needs memory is learned with it, and not without."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from ppo_jax import evaluate, make_ppo, parts_of, train
from ppo_jax.configs import config_for
from ppo_jax.envs import make
from ppo_jax.runs.config_fields import override

NUM_ITERATIONS = 20
WITHOUT = {
    f"{model}.{field}": value
    for model in ("actor", "critic")
    for field, value in {"class_name": "MLPModel", "rnn_hidden_dim": 256}.items()
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lstm", "gru", "none"])
def test_recall_is_solved_with_memory_and_only_with_it(kind):
    """Three seeds at once. 1/2 is the best that there is without (see `Recall`)."""
    config = config_for("Recall")
    kinds = {"actor.rnn_type": kind, "critic.rnn_type": kind}
    config = override(config, WITHOUT if kind == "none" else kinds)
    env = make("Recall", config.num_envs)
    network, ppo_config, hparams = parts_of(config, env.action_space)
    ppo = make_ppo(network, ppo_config)

    @jax.jit
    @jax.vmap
    def learn_and_play(key):
        run = partial(train, ppo, env, config.num_steps_per_env, NUM_ITERATIONS)
        state, _ = run(key, hparams)
        return evaluate(ppo, env, state.train, key).episode_return.mean()

    won = learn_and_play(jax.random.split(jax.random.key(0), 3))
    if kind == "none":
        assert (jnp.abs(won - 0.5) < 0.15).all()
    else:
        assert (won > config.solved_return).all()
