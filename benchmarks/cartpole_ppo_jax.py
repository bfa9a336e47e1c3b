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

import argparse
import json
import os
import statistics
import time
from functools import partial
from importlib.metadata import version

os.environ["JAX_PLATFORMS"] = "cpu"

import jax

from envs.gymnax_adapter import make_gymnax
from envs.task import vectorize
from ppo_jax import Hyperparams, ModelConfig, PPOConfig, actor_critic, make_ppo, train


def main():
    args = parse()
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

    started = time.perf_counter()
    run = partial(train, ppo, env, args.num_steps, iterations, hparams=hparams)
    if args.seeds:
        run = jax.vmap(run)
    lowered = jax.jit(run).lower(make_key(0, args.seeds))
    lower_s = time.perf_counter() - started
    compiled = lowered.compile()
    compile_s = time.perf_counter() - started - lower_s

    run_s, processor_s, returns = [], [], []
    for seed in range(args.repeats):
        key = jax.block_until_ready(make_key(seed, args.seeds))
        started, processor_started = time.perf_counter(), time.process_time()
        _, metrics = jax.block_until_ready(compiled(key))
        run_s.append(time.perf_counter() - started)
        processor_s.append(time.process_time() - processor_started)
        returns.append(float(metrics["episode_return"][..., -1].mean()))

    seconds = statistics.median(run_s)
    env_steps = iterations * rollout
    result = {
        "benchmark": "cartpole",
        "library": "ppo_jax",
        "version": version("ppo_jax"),
        "jax": jax.__version__,
        "num_envs": args.num_envs,
        "num_steps": args.num_steps,
        "seeds": args.seeds,
        "env_steps": env_steps,
        "compile_s": round(lower_s + compile_s, 2),
        "run_s": round(seconds, 3),
        "processor_s": round(statistics.median(processor_s), 3),
        "steps_per_s": round(max(args.seeds, 1) * env_steps / seconds),
        "episode_return": round(statistics.mean(returns), 1),
    }
    print(json.dumps(result))


def make_key(seed: int, seeds: int):
    """Returns the key of a run, or those of all that are one program."""
    key = jax.random.key(seed)
    return jax.random.split(key, seeds) if seeds else key


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--num-envs", type=int, default=4)
    parser.add_argument("--num-steps", type=int, default=128)
    parser.add_argument("--env-steps", type=int, default=500_000)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=0, help="side by side; 0: alone")
    return parser.parse_args()


if __name__ == "__main__":
    main()
