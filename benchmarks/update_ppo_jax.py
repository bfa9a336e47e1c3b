# /// script
# requires-python = "==3.12.*"
# dependencies = ["ppo_jax", "jax==0.11.2"]
#
# [tool.uv.sources]
# ppo_jax = { path = "../", editable = true }
# ///
"""One PPO update of ppo_jax on the CPU: returns, then 5 epochs of 4 minibatches.

The rollout is made by ppo_jax's own `act`, outside the clock, with random
observations, rewards and episode ends. `--network lstm` is the agent that Isaac Lab's
ANYmal D has with memory.
"""

import os
from importlib.metadata import version

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
from timing import Clock, print_update, update_options

from ppo_jax import (
    Continuous,
    Hyperparams,
    ModelConfig,
    PPOConfig,
    Rollout,
    Transition,
    actor_critic,
    make_ppo,
)
from ppo_jax.policies.memory import forget

OBS_DIM, ACTION_DIM = 48, 12
MODELS = {
    "mlp": ModelConfig(hidden_dims=(256, 128, 64), activation="elu"),
    "lstm": ModelConfig(
        class_name="RNNModel",
        rnn_type="lstm",
        rnn_hidden_dim=256,
        hidden_dims=(128, 128, 128),
        activation="elu",
    ),
}


def main():
    args = update_options().parse_args()
    model = MODELS[args.network]
    ppo = make_ppo(
        actor_critic(Continuous(ACTION_DIM), model, model),
        PPOConfig(num_learning_epochs=5, num_mini_batches=4, schedule="adaptive"),
    )
    hparams = Hyperparams()
    obs = {"policy": jnp.zeros((args.num_envs, OBS_DIM))}
    state = jax.jit(ppo.init)(jax.random.key(0), obs, hparams)

    @jax.jit
    def fill(state, key):
        return random_rollout(ppo, state, key, args.num_steps, args.num_envs)

    update = jax.jit(ppo.update, donate_argnums=0)
    clock = Clock()
    for index in range(1 + args.repeats):
        rollout_key, key = jax.random.split(jax.random.key(index))
        rollout = jax.block_until_ready(fill(state, rollout_key))
        with clock:
            state, _ = jax.block_until_ready(update(state, hparams, rollout, key))

    print_update(
        clock, args, library="ppo_jax", version=version("ppo_jax"), jax=jax.__version__
    )


def random_rollout(ppo, state, key, num_steps, num_envs):
    obs_key, last_key, action_key, reward_key, end_key = jax.random.split(key, 5)
    shape = (num_steps, num_envs)
    obs = {"policy": jax.random.normal(obs_key, (*shape, OBS_DIM))}
    done = jax.random.bernoulli(end_key, 0.01, shape)
    first_carry = ppo.initial_carry({"policy": obs["policy"][0]})

    def step(carry, seen):
        obs, done, key = seen
        output = ppo.act(state, obs, key, carry)
        return forget(output.carry, done), output._replace(carry=())

    keys = jax.random.split(action_key, num_steps)
    _, output = jax.lax.scan(step, first_carry, (obs, done, keys))
    steps = Transition(
        obs=obs,
        action=output.action,
        log_prob=output.log_prob,
        distribution=output.distribution,
        reward=jax.random.normal(reward_key, shape),
        terminated=done,
        truncated=jnp.zeros(shape, bool),
        final_value=(),
    )
    last_obs = {"policy": jax.random.normal(last_key, (num_envs, OBS_DIM))}
    return Rollout(steps, last_obs, first_carry)


if __name__ == "__main__":
    main()
