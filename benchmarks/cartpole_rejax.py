# /// script
# requires-python = "==3.12.*"
# dependencies = ["rejax==0.1.3", "gymnax==0.0.9", "jax==0.11.2"]
# ///
"""CartPole-v1 with rejax: compile time, steps per second and what was learned.

rejax 0.1.3 needs gymnax 0.0.9. Its evaluation during training is switched off; the
return is that of 128 episodes of the stochastic policy afterwards, outside the clock.
With `--seeds N` so many runs are one program, and the return is their mean.
"""

import argparse
import json
import os
import statistics
import time
from importlib.metadata import version

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
from rejax import PPO
from rejax.evaluate import evaluate


def main():
    args = parse()
    rollout = args.num_envs * args.num_steps
    env_steps = args.env_steps // rollout * rollout
    algorithm = PPO.create(
        env="CartPole-v1",
        num_envs=args.num_envs,
        num_steps=args.num_steps,
        num_epochs=4,
        num_minibatches=4,
        learning_rate=args.learning_rate,
        gamma=0.99,
        gae_lambda=0.95,
        clip_eps=0.2,
        vf_coef=0.5,
        ent_coef=0.01,
        max_grad_norm=0.5,
        agent_kwargs={"activation": "tanh", "hidden_layer_sizes": (64, 64)},
        total_timesteps=env_steps,
        eval_freq=env_steps,
        skip_initial_evaluation=True,
    ).replace(eval_callback=lambda algorithm, state, key: ())

    def final_return(state, key):
        act, env = algorithm.make_act(state), algorithm.env
        return evaluate(act, key, env, algorithm.env_params, 128, 500)[1].mean()

    started = time.perf_counter()
    run = jax.vmap(algorithm.train) if args.seeds else algorithm.train
    lowered = jax.jit(run).lower(make_key(0, args.seeds))
    lower_s = time.perf_counter() - started
    train = lowered.compile()
    compile_s = time.perf_counter() - started - lower_s

    run_s, processor_s, returns = [], [], []
    for seed in range(args.repeats):
        key = jax.block_until_ready(make_key(seed, args.seeds))
        started, processor_started = time.perf_counter(), time.process_time()
        state, _ = jax.block_until_ready(train(key))
        run_s.append(time.perf_counter() - started)
        processor_s.append(time.process_time() - processor_started)
        play = jax.vmap(final_return) if args.seeds else final_return
        returns.append(float(play(state, key).mean()))

    seconds = statistics.median(run_s)
    result = {
        "benchmark": "cartpole",
        "library": "rejax",
        "version": version("rejax"),
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
