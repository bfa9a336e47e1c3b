"""Trains a real mjlab task with ppo_jax and with mjlab's own trainer, and times both.

    uv run --python 3.12 --extra mjlab benchmarks/mjlab_speed.py

mjlab's trainer is rsl_rl, with the agent that the task registers for it; ppo_jax has
the same numbers, and rsl_rl's value after a time-out. Each runs its own training loop,
one iteration in turn with the other; `turns` says how that is timed. Writes
docs/mjlab_speed.md.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import page
import turns
from turns import Call

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of torch, the simulator's included
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("MJLAB_WARP_QUIET", "1")

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
RESULTS = HERE / "mjlab_results.json"
REPORT = HERE.parent / "docs" / "mjlab_speed.md"

TASKS = ("Mjlab-Cartpole-Balance", "Mjlab-Cartpole-Swingup")
NUM_STEPS = 32  # per iteration, as the tasks' agent has it
NUM_ENVS = (1024,)
LIBRARIES = ("ppo_jax, in_jit", "ppo_jax, host", "rsl_rl")


def main() -> None:
    args = parse()
    if args.library:
        result = measure(args.library, args.task, args.num_envs, args.iterations)
        turns.tell({"task": args.task, **result})
        return
    results = kept() if args.resume else []
    for number in range(args.rounds):
        for task in TASKS:
            for num_envs in NUM_ENVS:
                which = {"round": number, "task": task, "num_envs": num_envs}
                if any(which.items() <= result.items() for result in results):
                    continue
                for result in measure_all(task, num_envs, args.iterations):
                    results.append({"round": number, **result})
                    print(json.dumps(results[-1]), flush=True)
                keep(results)
    REPORT.write_text(report(results))
    print(f"wrote {RESULTS} and {REPORT}")


def kept() -> list[dict]:
    return json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else []


def keep(results: list[dict]) -> None:
    machine = page.named(page.machine())
    found = {"machine": machine, "runs": results}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def measure_all(task: str, num_envs: int, iterations: int) -> list[dict]:
    """Trains with all libraries, one iteration of each in turn."""
    which = ["--task", task, "--num_envs", str(num_envs)]
    which += ["--iterations", str(iterations)]
    return turns.measure_all([[__file__, "--library", x, *which] for x in LIBRARIES])


def measure(library: str, task: str, num_envs: int, iterations: int) -> dict:
    """Trains and returns the median iteration, and its part outside of `step`."""
    calls: list[Call] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chdir(folder)
        if library == "rsl_rl":
            train_rsl_rl(task, num_envs, iterations, calls)
        else:
            train_ppo_jax(library.split(", ")[1], task, num_envs, iterations, calls)
    return turns.worker_result(library, num_envs, iterations, calls, NUM_STEPS)


def train_ppo_jax(
    driver: str, task: str, num_envs: int, iterations: int, calls: list[Call]
) -> None:
    from ppo_jax.cli.tasks import default_config, open_trainer
    from ppo_jax.runs import runner
    from ppo_jax.runs.config_fields import override

    changes = {
        "num_envs": num_envs,
        "max_iterations": iterations,
        "algorithm.timeout_bootstrap": "last_value",  # rsl_rl's
        "simulator.device": "cpu",
        "simulator.bridge": driver,
        "save_interval": iterations + 1,
    }
    config = override(default_config(f"mjlab:{task}"), changes)
    with open_trainer(config) as trainer:
        turns.time_calls(trainer.env.torch_env.mjlab, calls, NUM_STEPS)
        runner.run_training(trainer, Path("run"))


def train_rsl_rl(task: str, num_envs: int, iterations: int, calls: list[Call]) -> None:
    """Does what mjlab's `train` does, without its command line."""
    import mjlab.tasks  # noqa: F401 - registers them
    from mjlab.envs import ManagerBasedRlEnv
    from mjlab.rl import MjlabOnPolicyRunner, RslRlVecEnvWrapper
    from mjlab.tasks.registry import load_env_cfg, load_rl_cfg
    from mjlab.utils.torch import configure_torch_backends

    configure_torch_backends()
    env_cfg, agent_cfg = load_env_cfg(task), load_rl_cfg(task)
    env_cfg.scene.num_envs, env_cfg.seed = num_envs, agent_cfg.seed
    settings = asdict(agent_cfg) | {"logger": "tensorboard"}
    settings["save_interval"] = iterations + 1
    env = ManagerBasedRlEnv(env_cfg, device="cpu")
    wrapped = RslRlVecEnvWrapper(env, clip_actions=agent_cfg.clip_actions)
    learner = MjlabOnPolicyRunner(wrapped, settings, "run", "cpu")
    turns.time_calls(env, calls, NUM_STEPS)
    learner.learn(iterations, init_at_random_ep_len=True)
    env.close()


def report(results: list[dict]) -> str:
    machine = json.loads(RESULTS.read_text())["machine"]
    lines = [
        "# mjlab: speed",
        "",
        "Written by `benchmarks/mjlab_speed.py`; how it times, `benchmarks/turns.py` "
        "says. ppo_jax and mjlab's own trainer (rsl_rl) run their own loops on the "
        "real simulator, one iteration each in turn, on one machine: "
        f"{machine}, no GPU. torch has one thread in all of them, the simulator's "
        "torch included; `OMP_NUM_THREADS` gives it another number.",
        "",
        f"Rounds: {1 + max(result['round'] for result in results)}; numbers are "
        "medians, and a share or ratio is the median of those of the rounds. Above 1, "
        "ppo_jax inside the jit is ahead.",
    ]
    for task in TASKS:
        of_task = [result for result in results if result["task"] == task]
        lines += ["", f"## {task}", "", *turns.rows(of_task, LIBRARIES)]
    return "\n".join(lines) + "\n"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=15)
    parser.add_argument(
        "--resume", action="store_true", help="keep what an earlier call has measured"
    )
    parser.add_argument(
        "--library", choices=LIBRARIES, help="be the worker of this one"
    )
    parser.add_argument("--task", choices=TASKS, default=TASKS[0])
    parser.add_argument("--num_envs", type=int, default=1024)
    return parser.parse_args()


if __name__ == "__main__":
    main()
