# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Runs ppo_jax beside its peers, in turn on one machine, for docs/benchmarks.md.

    uv run --script benchmarks/run.py [--quick] [--only cartpole|update]

Each library runs in its own pinned environment, named at the head of its script, and
the libraries take turns (A B C, A B C, ...), so that a machine that drifts drifts for
all. Of the rounds the median is taken; a ratio is the median of the rounds' ratios.
"""

import argparse
import json
import os
import subprocess
from pathlib import Path

import page

HERE = Path(__file__).resolve().parent

# A script and its own options: torch once for each number of threads, so that a peer's
# best one is on the page. XLA has all cores, which is its default and cannot be less.
THREADS = sorted({1, 2, os.cpu_count() or 1})
CARTPOLE = [("cartpole_ppo_jax.py", {}), ("cartpole_rejax.py", {})]
UPDATE = [
    ("update_ppo_jax.py", {}),
    *(("update_rsl_rl.py", {"threads": n}) for n in THREADS),
    ("update_skrl.py", {}),
]
CASES = [
    ("cartpole", CARTPOLE, {"num-envs": 4, "num-steps": 128}),
    ("cartpole", CARTPOLE, {"num-envs": 64, "num-steps": 128, "learning-rate": 2e-3}),
    ("update", UPDATE, {"num-envs": 64, "num-steps": 24}),
    ("update", UPDATE, {"num-envs": 512, "num-steps": 24}),
    ("update", UPDATE, {"num-envs": 4096, "num-steps": 24}),
]


def main():
    args = parse()
    cases = [case for case in CASES if args.only in (None, case[0])]
    measured = []
    for kind, scripts, size in cases:
        rounds = []
        for number in range(args.rounds):
            rounds.append([run(name, size | own, args.quick) for name, own in scripts])
            load = os.getloadavg()[0]
            print(
                f"{kind} {size}, round {number + 1} of {args.rounds}, load {load:.1f}"
            )
            for result in rounds[-1]:
                print(f"  {json.dumps(result)}", flush=True)
        measured.append({"kind": kind, "size": size, "rounds": rounds})
    kinds = {kind for kind, *_ in cases}
    page.keep(page.RUN, {"rounds": args.rounds, "cases": measured}, instead_of=kinds)


def run(script: str, size: dict, quick: bool) -> dict:
    """Runs one script in its own environment; returns the line that it prints."""
    options = dict(size)
    if quick and script.startswith("cartpole"):
        options["env-steps"] = 100_000
    words = [
        word for name, value in options.items() for word in (f"--{name}", str(value))
    ]
    environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    output = subprocess.run(
        ["uv", "run", "--quiet", "--script", str(HERE / script), *words],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        env=environment,
    ).stdout
    return json.loads(output.strip().splitlines()[-1])


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["cartpole", "update"])
    parser.add_argument("--quick", action="store_true", help="fewer environment steps")
    return parser.parse_args()


if __name__ == "__main__":
    main()
