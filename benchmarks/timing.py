"""What the scripts of the libraries share: a clock, options, the line they print."""

import argparse
import csv
import json
import statistics
import time
from pathlib import Path


class Clock:
    """Wall and processor seconds of what runs under it, an entry each time."""

    def __init__(self):
        self.seconds, self.processor_seconds = [], []

    def __enter__(self):
        self._started = time.perf_counter(), time.process_time()

    def __exit__(self, *error):
        started, processor_started = self._started
        self.seconds.append(time.perf_counter() - started)
        self.processor_seconds.append(time.process_time() - processor_started)


def update_options() -> argparse.ArgumentParser:
    """Returns the options of the scripts that time an update."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--num-envs", type=int, default=512)
    parser.add_argument("--num-steps", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--network", choices=["mlp", "lstm"], default="mlp")
    return parser


def print_update(clock: Clock, args: argparse.Namespace, **who: str):
    """Prints the line of a script that timed updates; the first one compiles."""
    result = {
        "benchmark": "update",
        **who,
        "num_envs": args.num_envs,
        "num_steps": args.num_steps,
        "network": args.network,
        "first_s": round(clock.seconds[0], 4),
        "update_s": round(statistics.median(clock.seconds[1:]), 5),
        "best_s": round(min(clock.seconds[1:]), 5),
        "processor_s": round(statistics.median(clock.processor_seconds[1:]), 5),
    }
    print(json.dumps(result))


def cartpole_options() -> argparse.ArgumentParser:
    """Returns the options of the scripts that train CartPole."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--num-envs", type=int, default=4)
    parser.add_argument("--num-steps", type=int, default=128)
    parser.add_argument("--env-steps", type=int, default=500_000)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=0, help="side by side; 0: alone")
    return parser


def time_training(train, judge, args: argparse.Namespace, env_steps: int, **who: str):
    """Compiles and times a training in JAX, and prints its line.

    Args:
      train: key -> what was trained; so many at once, `vmap`ped, as there are seeds.
      judge: (what was trained, key) -> mean return, outside the clock.
      args: of `cartpole_options`.
      env_steps: of one run.
      who: library and versions.
    """
    import jax

    def make_key(seed):
        key = jax.random.key(seed)
        return jax.random.split(key, args.seeds) if args.seeds else key

    compiling, running, returns = Clock(), Clock(), []
    with compiling:
        program = jax.jit(jax.vmap(train) if args.seeds else train)
        compiled = program.lower(make_key(0)).compile()
    for seed in range(args.repeats):
        key = jax.block_until_ready(make_key(seed))
        with running:
            trained = jax.block_until_ready(compiled(key))
        returns.append(float(judge(trained, key)))

    seconds = statistics.median(running.seconds)
    result = {
        "benchmark": "cartpole",
        **who,
        "num_envs": args.num_envs,
        "num_steps": args.num_steps,
        "seeds": args.seeds,
        "env_steps": env_steps,
        "compile_s": round(compiling.seconds[0], 2),
        "run_s": round(seconds, 3),
        "processor_s": round(statistics.median(running.processor_seconds), 3),
        "steps_per_s": round(max(args.seeds, 1) * env_steps / seconds),
        "episode_return": round(statistics.mean(returns), 1),
    }
    print(json.dumps(result))


def iteration_times(folder: Path) -> list[float]:
    """Returns the times of the iterations of the run in a folder, in s."""
    (table,) = folder.glob("logs/ppo_jax/*/*/metrics.csv")
    with table.open(newline="") as file:
        return [float(row["iteration_time"]) for row in csv.DictReader(file)]


def device() -> str:
    """Returns where torch has its arrays: on the first GPU if there is one."""
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"
