"""Trains a real Isaac Lab task with ppo_jax, rsl_rl and skrl (JAX), and times the loop.

    uv run --python 3.12 --extra isaaclab --with skrl==2.1.1 benchmarks/isaac_lab.py

Each library runs its own training loop with rsl_rl's numbers for the task, one
iteration in turn with the others; `turns` says how that is timed. Writes
docs/isaac_lab_speed.md.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import page
import turns
from turns import Call

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of torch, the simulator's included

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
RESULTS = HERE / "isaac_lab_results.json"
REPORT = HERE.parent / "docs" / "isaac_lab_speed.md"

TASK = "Isaac-Cartpole-Direct"
DEVICE = "cpu"  # benchmarks/gpu.py has another
NUM_STEPS = 16  # per iteration, as rsl_rl's configuration of the task has it
LIBRARIES = ("ppo_jax, in_jit", "ppo_jax, host", "rsl_rl", "skrl (JAX)")


def main() -> None:
    global DEVICE
    args = parse()
    DEVICE = args.device
    if args.library:
        turns.tell(measure(args.library, args.num_envs, args.iterations))
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
    size = ["--num_envs", str(num_envs), "--iterations", str(iterations)]
    size += ["--device", DEVICE]
    return turns.measure_all([[__file__, "--library", x, *size] for x in libraries])


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
    return turns.worker_result(library, num_envs, iterations, calls, NUM_STEPS)


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
        turns.time_calls(trainer.env.torch_env.isaac, calls, NUM_STEPS)
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
        turns.time_calls(env.unwrapped, calls, NUM_STEPS)
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
        turns.time_calls(env.unwrapped, calls, NUM_STEPS)
        learner.run()
        env.close()


def resolve(agent: str, num_envs: int) -> tuple:
    from ppo_jax.envs.isaac_lab import resolve_task

    env_cfg, agent_cfg = resolve_task(TASK, agent)
    env_cfg.scene.num_envs, env_cfg.sim.device, env_cfg.seed = num_envs, DEVICE, 42
    return env_cfg, agent_cfg


def report(results: list[dict], machine: str) -> str:
    rounds = 1 + max(result["round"] for result in results)
    lines = [
        f"# {TASK}: speed",
        "",
        "Written by `benchmarks/isaac_lab.py`; how it times, `benchmarks/turns.py` "
        "says. Each library runs its own loop on the real simulator, one iteration "
        f"each in turn, on one machine: {machine}, no GPU. torch has one thread in all "
        "of them, the simulator's torch included; `OMP_NUM_THREADS` gives it another "
        "number.",
        "",
        f"Rounds: {rounds}; numbers are medians, and a share or ratio is the median of "
        "those of the rounds. Above 1, ppo_jax inside the jit is ahead.",
        "",
        *turns.rows(results, LIBRARIES),
    ]
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
