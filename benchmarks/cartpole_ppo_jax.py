# /// script
# requires-python = "==3.12.*"
# dependencies = ["ppo_jax", "gymnax==1.0.1", "six", "jax==0.11.2"]
#
# [tool.uv.sources]
# ppo_jax = { path = "../", editable = true }
# ///
"""CartPole-v1 with ppo_jax: compile time, steps per second and what was learned.

The same workload as `cartpole_rejax.py`. The return is the mean of the last 100
episodes of training, which the stochastic policy played. With `--seeds N` so many runs
are one program, and the return is their mean.
"""

import os
from functools import partial
from importlib.metadata import version

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
from timing import cartpole_options, time_training

from ppo_jax import Hyperparams, ModelConfig, PPOConfig, actor_critic, make_ppo, train
from ppo_jax.envs.gymnax_adapter import make_gymnax
from ppo_jax.envs.task import vectorize


def main():
    args = cartpole_options().parse_args()
    rollout = args.num_envs * args.num_steps
    iterations = args.env_steps // rollout
    env = vectorize(make_gymnax("CartPole-v1"), args.num_envs)
    model = ModelConfig(hidden_dims=(64, 64), activation="tanh")
    ppo = make_ppo(
        actor_critic(env.action_space, model, model),
        PPOConfig(
            num_learning_epochs=4,
            num_mini_batches=4,
            schedule="fixed",
            normalize_advantage_per_mini_batch=True,
            reshuffle_each_epoch=True,
        ),
    )
    hparams = Hyperparams(
        learning_rate=args.learning_rate,
        gamma=0.99,
        lam=0.95,
        clip_param=0.2,
        value_loss_coef=0.25,  # rejax: 0.5, of half the squared error
        entropy_coef=0.01,
        max_grad_norm=0.5,
    )

    run = partial(train, ppo, env, args.num_steps, iterations, hparams=hparams)
    time_training(
        run,
        lambda trained, _: trained[1]["episode_return"][..., -1].mean(),
        args,
        iterations * rollout,
        library="ppo_jax",
        version=version("ppo_jax"),
        jax=jax.__version__,
    )


if __name__ == "__main__":
    main()
