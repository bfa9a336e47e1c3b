"""Trains a real Isaac Lab task with ppo_jax, rsl_rl and skrl (JAX), and times the loop.

    uv run --python 3.12 --extra isaaclab --with skrl==2.1.1 benchmarks/isaac_lab.py

Each library runs its own training loop in a process of its own, with rsl_rl's numbers
for the task. All are open at once and take turns, one iteration each, while the others
wait: what else the machine does in those seconds slows all of them alike. The clock
sits in the simulator's `step`, the same for all: an iteration lasts from the first call
of one to the first call of the next, and what is not inside `step` is the library's.
Writes docs/isaac_lab_speed.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import page

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of torch, the simulator's included

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
RESULTS = HERE / "isaac_lab_results.json"
REPORT = HERE.parent / "docs" / "isaac_lab_speed.md"

TASK = "Isaac-Cartpole-Direct"
DEVICE = "cpu"  # benchmarks/gpu.py has another
NUM_STEPS = 16  # per iteration, as rsl_rl's configuration of the task has it
LIBRARIES = ("ppo_jax, in_jit", "ppo_jax, host", "rsl_rl", "skrl (JAX)")
WARM_UP = 5  # iterations in which programs are compiled
WAITS, RESULT = "worker waits", "worker's result "  # how its lines to us begin


class Call(NamedTuple):
    """When a call of `step` came, when it was let through, and when it ended."""

    arrived: float
    started: float
    ended: float


def main() -> None:
    global DEVICE
    args = parse()
    DEVICE = args.device
    if args.library:
        result = measure(args.library, args.num_envs, args.iterations)
        print(f"\n{RESULT}{json.dumps(result)}", flush=True)
        return
    results = []
    for number in range(args.rounds):
        for num_envs in (1024, 4096):
            for result in measure_all(LIBRARIES, num_envs, args.iterations):
                results.append({"round": number, **result})
                print(json.dumps(results[-1]), flush=True)
    machine = page.named(page.machine())
    RESULTS.write_text(json.dumps({"machine": machine, "runs": results}, indent=1))
    REPORT.write_text(report(results, machine))
    print(f"wrote {RESULTS} and {REPORT}")


def measure_all(libraries: Iterable[str], num_envs: int, iterations: int) -> list[dict]:
    """Trains with all libraries, one iteration of each in turn."""
    workers = []
    for library in libraries:
        workers.append(start(library, num_envs, iterations))
        until_it_waits(workers[-1])
    results: list[dict | None] = [None]
    while None in results:
        results = [take_turn(worker) for worker in workers]
    return [result for result in results if result]


def start(library: str, num_envs: int, iterations: int) -> subprocess.Popen:
    """Starts a process: Isaac Lab holds one environment at a time in each."""
    options = {"library": library, "num_envs": num_envs, "iterations": iterations}
    options |= {"device": DEVICE}
    words = [word for k, v in options.items() for word in (f"--{k}", str(v))]
    return subprocess.Popen(
        [sys.executable, __file__, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def take_turn(worker: subprocess.Popen) -> dict | None:
    """Lets a worker go on for an iteration; returns its result after the last."""
    worker.stdin.write("go on\n")
    worker.stdin.flush()
    return until_it_waits(worker)


def until_it_waits(worker: subprocess.Popen) -> dict | None:
    for line in worker.stdout:
        if line.startswith(WAITS):
            return None
        if line.startswith(RESULT):
            worker.communicate()
            return json.loads(line.removeprefix(RESULT))
    raise RuntimeError(f"a library failed: {' '.join(worker.args)}")


def measure(library: str, num_envs: int, iterations: int) -> dict:
    """Trains and returns the median iteration, and its part outside of `step`."""
    calls: list[Call] = []
    train = {"rsl_rl": train_rsl_rl, "skrl (JAX)": train_skrl}.get(library)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chdir(folder)
        if train is None:
            train_ppo_jax(library.split(", ")[1], num_envs, iterations, calls)
        else:
            train(num_envs, iterations, calls)
    whole, outside = [], []
    warm_up = min(WARM_UP, iterations - 2)
    for first in range(warm_up * NUM_STEPS, len(calls) - NUM_STEPS, NUM_STEPS):
        seconds = calls[first + NUM_STEPS].arrived - calls[first].started
        steps = calls[first : first + NUM_STEPS]
        whole.append(seconds)
        outside.append(seconds - sum(call.ended - call.started for call in steps))
    iteration, rest = statistics.median(whole), statistics.median(outside)
    return {
        "library": library,
        "num_envs": num_envs,
        "iterations": len(whole),
        "iteration_s": round(iteration, 4),
        "outside_s": round(rest, 4),
        "steps_per_s": round(num_envs * NUM_STEPS / iteration),
    }


def train_ppo_jax(
    driver: str, num_envs: int, iterations: int, calls: list[Call]
) -> None:
    from ppo_jax.cli.tasks import default_config, open_trainer
    from ppo_jax.runs import runner
    from ppo_jax.runs.config_fields import override

    changes = {
        "num_envs": num_envs,
        "max_iterations": iterations,
        "algorithm.timeout_bootstrap": "last_value",  # rsl_rl's
        "simulator.device": DEVICE,
        "simulator.bridge": driver,
        "save_interval": iterations + 1,
    }
    config = override(default_config(TASK), changes)
    with open_trainer(config) as trainer:
        time_calls(trainer.env.torch_env.isaac, calls)
        runner.run_training(trainer, Path("run"))


def train_rsl_rl(num_envs: int, iterations: int, calls: list[Call]) -> None:
    import gymnasium
    from isaaclab.app import launch_simulation
    from isaaclab_rl.rsl_rl import RslRlVecEnvWrapper, handle_deprecated_rsl_rl_cfg
    from rsl_rl.runners import OnPolicyRunner

    env_cfg, agent_cfg = resolve("rsl_rl_cfg_entry_point", num_envs)
    import importlib.metadata as metadata

    agent_cfg = handle_deprecated_rsl_rl_cfg(agent_cfg, metadata.version("rsl-rl-lib"))
    with launch_simulation(env_cfg, {"device": DEVICE}):
        env = gymnasium.make(TASK, cfg=env_cfg)
        wrapped = RslRlVecEnvWrapper(env, clip_actions=agent_cfg.clip_actions)
        settings = agent_cfg.to_dict() | {"device": DEVICE}
        learner = OnPolicyRunner(wrapped, settings, log_dir="run", device=DEVICE)
        time_calls(env.unwrapped, calls)
        learner.learn(iterations, init_at_random_ep_len=True)
        env.close()


def train_skrl(num_envs: int, iterations: int, calls: list[Call]) -> None:
    import gymnasium
    import skrl
    from isaaclab.app import launch_simulation
    from isaaclab_rl.skrl import SkrlVecEnvWrapper

    skrl.config.jax.backend = "jax"
    from skrl.utils.runner.jax import Runner

    env_cfg, agent_cfg = resolve("skrl_cfg_entry_point", num_envs)
    agent_cfg["agent"] |= {
        "rollouts": NUM_STEPS,
        "learning_epochs": 5,
        "mini_batches": 4,
    }
    agent_cfg["trainer"] |= {
        "timesteps": iterations * NUM_STEPS,
        "close_environment_at_exit": False,
    }
    with launch_simulation(env_cfg, {"device": DEVICE}):
        env = gymnasium.make(TASK, cfg=env_cfg)
        learner = Runner(SkrlVecEnvWrapper(env, ml_framework="jax"), agent_cfg)
        time_calls(env.unwrapped, calls)
        learner.run()
        env.close()


def resolve(agent: str, num_envs: int) -> tuple:
    from envs.isaac_lab import resolve_task

    env_cfg, agent_cfg = resolve_task(TASK, agent)
    env_cfg.scene.num_envs, env_cfg.sim.device, env_cfg.seed = num_envs, DEVICE, 42
    return env_cfg, agent_cfg


def time_calls(isaac, calls: list[Call]) -> None:
    """Notes when each call of `step` begins and ends; waits before each iteration."""
    step = isaac.step

    def timed(action):
        arrived = time.perf_counter()
        if len(calls) % NUM_STEPS == 0:
            print(f"\n{WAITS}", flush=True)
            sys.stdin.readline()
        started = time.perf_counter()
        result = step(action)
        calls.append(Call(arrived, started, time.perf_counter()))
        return result

    isaac.step = timed


def report(results: list[dict], machine: str) -> str:
    rounds = 1 + max(result["round"] for result in results)
    lines = [
        f"# {TASK}: speed",
        "",
        "Written by `benchmarks/isaac_lab.py`, which says at its head how it measures. "
        "Each library runs its own loop on the real simulator, one iteration each in "
        f"turn, on one machine: {machine}, no GPU. torch has one thread in all of "
        "them, the simulator's torch included; `OMP_NUM_THREADS` gives it another "
        "number.",
        "",
        f"Rounds: {rounds}; numbers are medians, and a share or ratio is the median of "
        "those of the rounds. Above 1, ppo_jax inside the jit is ahead.",
        "",
        "| envs | library | env steps/s | iteration (ms) | outside `env.step` (ms) "
        "| share | in_jit / it |",
        "|---|---|---|---|---|---|---|",
    ]
    for num_envs in (1024, 4096):
        of_size = [result for result in results if result["num_envs"] == num_envs]
        by_library = {
            name: [result for result in of_size if result["library"] == name]
            for name in LIBRARIES
        }
        for name, runs in by_library.items():
            speed, whole, outside = (
                statistics.median(run[key] for run in runs)
                for key in ("steps_per_s", "iteration_s", "outside_s")
            )
            share = statistics.median(
                run["outside_s"] / run["iteration_s"] for run in runs
            )
            pairs = zip(by_library[LIBRARIES[0]], runs, strict=True)
            ratio = statistics.median(
                a["steps_per_s"] / b["steps_per_s"] for a, b in pairs
            )
            ahead = "" if name == LIBRARIES[0] else f"{ratio:.2f}"
            lines.append(
                f"| {num_envs} | {name} | {speed:,.0f} | {1000 * whole:.0f} | "
                f"{1000 * outside:.0f} | {share:.1%} | {ahead} |"
            )
    return "\n".join(lines) + "\n"


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=15)
    parser.add_argument(
        "--library", choices=LIBRARIES, help="be the worker of this one"
    )
    parser.add_argument("--num_envs", type=int, default=1024)
    parser.add_argument("--device", default=DEVICE)
    return parser.parse_args()


if __name__ == "__main__":
    main()
