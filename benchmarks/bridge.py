"""What a step of a torch simulator costs beside the simulator, with both drivers.

    uv run --python 3.12 --extra isaaclab benchmarks/bridge.py [--beside CHECKOUT]

The simulator does nothing, so that what is left is the bridge, the loop and acting with
a small policy: microseconds of the host for each step of a rollout. `--beside` measures
another checkout of this repository in turn with this one, a process each, as they were
at their commits. Small arrays show what the host does; large ones, what is copied.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
DRIVERS = ("host", "in_jit")
OBS_DIM, ACTION_DIM = 48, 12


def main() -> None:
    args = parse()
    if args.worker:
        print(json.dumps(measure(args.num_envs, args.num_steps, args.repeats)))
        return
    checkouts = {"this": HERE.parent} | ({"other": args.beside} if args.beside else {})
    rounds: dict[str, list[dict]] = {name: [] for name in checkouts}
    for _ in range(args.rounds):
        for name, checkout in checkouts.items():
            rounds[name].append(run(checkout, args))
    print(table(rounds, args))


def run(checkout: Path, args: argparse.Namespace) -> dict:
    """Measures a checkout in a process of its own."""
    options = [f"--num-envs={args.num_envs}", f"--num-steps={args.num_steps}"]
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, "--worker", f"--repeats={args.repeats}", *options],
        env=environment,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    )
    return json.loads(done.stdout.splitlines()[-1])


def table(rounds: dict[str, list[dict]], args: argparse.Namespace) -> str:
    """Returns medians over the rounds; a ratio is the median of those of the rounds."""
    lines = [
        f"{args.num_envs} environments, observations {OBS_DIM}, actions {ACTION_DIM}, "
        f"{args.num_steps} steps a rollout, {rounds['this'][0]['device']}, jax "
        f"{rounds['this'][0]['jax']}, torch {rounds['this'][0]['torch']}; us a step:",
        "",
        f"| driver | {' | '.join(rounds)} |" + (" ratio |" if len(rounds) > 1 else ""),
        "|---" * (1 + len(rounds) + (len(rounds) > 1)) + "|",
    ]
    for driver in DRIVERS:
        cells = [statistics.median(r[driver] for r in of) for of in rounds.values()]
        words = [f"{cell:.0f}" for cell in cells]
        if len(rounds) > 1:
            pairs = zip(rounds["this"], rounds["other"], strict=True)
            ratio = statistics.median(a[driver] / b[driver] for a, b in pairs)
            words.append(f"{ratio:.2f}")
        lines.append(f"| {driver} | {' | '.join(words)} |")
    return "\n".join(lines)


def measure(num_envs: int, num_steps: int, repeats: int) -> dict:
    """Returns the microseconds of a step beside the simulator, by driver."""
    import jax
    import torch
    from timing import device as of_torch

    device = of_torch()
    prepare(device)
    result = {
        driver: time_steps(driver, device, num_envs, num_steps, repeats)
        for driver in DRIVERS
    }
    versions = {"jax": jax.__version__, "torch": torch.__version__}
    return result | versions | {"device": jax.devices()[0].device_kind}


def prepare(device: str) -> None:
    from ppo_jax.envs.dlpack import prepare_jax

    prepare_jax(device)


def time_steps(
    driver: str, device: str, num_envs: int, num_steps: int, repeats: int
) -> float:
    """Collects rollouts; returns the median of what a step took, in us."""
    import jax

    from ppo_jax import Hyperparams, ModelConfig, actor_critic, make_ppo
    from ppo_jax.envs.bridge import bridge
    from ppo_jax.learning.ppo import jitted
    from ppo_jax.loops.rollout import collect, host_scan
    from ppo_jax.loops.training import init_run

    env = bridge(idle(num_envs, device), driver)
    model = ModelConfig(hidden_dims=(32,))
    ppo = make_ppo(actor_critic(env.action_space, model, model))
    if driver == "host":
        ppo = jitted(ppo)
        gather = partial(collect, ppo, env, num_steps, scan=host_scan)
        run = init_run(ppo, env, Hyperparams(), jax.random.key(0))
    else:
        gather = env.jit(partial(collect, ppo, env, num_steps))
        run = env.jit(partial(init_run, ppo, env, Hyperparams()))(jax.random.key(0))
    key, spent = jax.random.key(1), []
    for _ in range(3 + repeats):
        env.drain_log()
        started = time.perf_counter()
        run, rollout, metrics = gather(run, key)
        jax.block_until_ready((run, rollout, metrics))
        seconds = time.perf_counter() - started
        seconds -= env.drain_log()["Perf/simulation_time"]
        spent.append(1e6 * seconds / num_steps)
    env.close()
    return round(statistics.median(spent[3:]), 1)


def idle(num_envs: int, device: str):
    """Returns a simulator that does nothing, with the buffers of an Isaac Lab task.

    Observations are new tensors in every step; the flags and the reward are not.
    """
    import torch

    from ppo_jax.envs.torch_env import TorchEnv
    from ppo_jax.types import Continuous, EnvInfo, TimeStep

    class Idle(TorchEnv):
        info = EnvInfo(num_envs, Continuous(ACTION_DIM), 1000, 0.02)
        has_final_obs = True

        def __init__(self):
            self.device = torch.device(device)
            self.parts = [
                torch.zeros(num_envs, OBS_DIM // 2, device=device) for _ in range(2)
            ]
            self.reward = torch.zeros(num_envs, device=device)
            self.terminated = torch.zeros(num_envs, dtype=torch.bool, device=device)
            self.truncated = torch.zeros_like(self.terminated)

        def reset(self, seed):
            return {"policy": torch.cat(self.parts, dim=1)}

        def step(self, action):
            obs = self.reset(0)
            flags = self.terminated, self.truncated
            return TimeStep(obs, self.reward, *flags, obs, log={})

        def set_episode_length(self, length):
            pass

        def drain_log(self):
            return {}

        def save_config(self, path):
            pass

        def close(self):
            pass

    return Idle()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beside", type=Path, help="another checkout, in turn")
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--num-steps", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
