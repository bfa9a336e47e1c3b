# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Runs many seeds as one program, and what one would do instead, in turn.

    uv run --script benchmarks/sweep.py [--quick] [--only together|vmap] [--singles N]

together: `sweep.py` beside one `train.py` after another, each with its own compilation
cache, empty at first. vmap: ppo_jax beside rejax, each in its own pinned environment.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import page
from run import CARTPOLE, run

ROOT = page.HERE.parent
SIZES = [
    {"num-envs": 4, "num-steps": 128},
    {"num-envs": 64, "num-steps": 128, "learning-rate": 2e-3},
]


def main():
    args = parse()
    together, cases = [], []
    if args.only in (None, "together"):
        type_in("python", "-c", "import ppo_jax", cache="", folder=ROOT)  # installs it
        for number in range(args.rounds):
            print(f"together, round {number + 1} of {args.rounds}", flush=True)
            together.append(measure_together(args.seeds, args.singles, args.extra))
    if args.only in (None, "vmap"):
        cases = [measure_vmap(size, args) for size in SIZES]
    results = {"rounds": args.rounds, "together": together, "cases": cases}
    page.keep(page.SWEEP, results)


def measure_together(seeds: int, singles: int, extra: list[str]) -> dict:
    """Returns the seconds of one sweep, and of single runs one after another."""
    with tempfile.TemporaryDirectory() as folder:
        home, task = Path(folder), ("--task", "Cartpole", *extra)
        sweep = ("python", str(ROOT / "sweep.py"), *task, "--seeds", str(seeds))
        sweep_s = type_in(*sweep, cache=str(home / "of_sweep"), folder=home)
        print(f"  sweep.py: {sweep_s:.1f} s", flush=True)
        alone_s = []
        for seed in range(singles):
            words = (*task, "--seed", str(seed), "--logger", "none")
            train = ("python", str(ROOT / "train.py"), *words)
            cache = str(home / "of_singles")
            alone_s.append(type_in(*train, cache=cache, folder=home))
            print(f"  train.py, seed {seed}: {alone_s[-1]:.1f} s", flush=True)
    words = " ".join(task)
    return {"words": words, "seeds": seeds, "sweep_s": sweep_s, "alone_s": alone_s}


def type_in(*words: str, cache: str, folder: Path) -> float:
    """Runs a command in the project's environment; returns the seconds it took."""
    environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    environment |= {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": cache}
    started = time.perf_counter()
    subprocess.run(
        ["uv", "run", "--quiet", "--project", str(ROOT), *words],
        check=True,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    return round(time.perf_counter() - started, 2)


def measure_vmap(size: dict, args: argparse.Namespace) -> dict:
    """Returns the rounds of one size, the libraries in turn."""
    options = size | {"seeds": args.seeds, "env-steps": args.env_steps, "repeats": 1}
    rounds = []
    for number in range(args.rounds):
        print(f"vmap {size}, round {number + 1} of {args.rounds}", flush=True)
        rounds.append([run(script, options, quick=False) for script in CARTPOLE])
        for result in rounds[-1]:
            print(f"  {json.dumps(result)}", flush=True)
    return {"kind": "vmap", "size": size, "rounds": rounds}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--singles", type=int, help="single runs; else one per seed")
    parser.add_argument("--env-steps", type=int, default=250_000, help="of each seed")
    parser.add_argument("--only", choices=["together", "vmap"])
    parser.add_argument("--quick", action="store_true", help="4 seeds, short runs")
    args = parser.parse_args()
    args.extra = []
    if args.quick:
        args.seeds, args.env_steps, args.rounds = 4, 50_000, 1
        args.extra = ["--max_iterations", "20"]
    args.singles = min(args.singles or args.seeds, args.seeds)
    return args


if __name__ == "__main__":
    main()
