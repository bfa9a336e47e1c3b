# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Runs ppo_jax beside its peers, in turn on one machine, and writes docs/benchmarks.md.

    uv run --script benchmarks/run.py [--quick] [--only cartpole|update]

Each library runs in its own pinned environment, named at the head of its script, and
the libraries take turns (A B C, A B C, ...), so that a machine that drifts drifts for
all. Of the rounds the median is taken; a ratio is the median of the rounds' ratios.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
REPORT = HERE.parent / "docs" / "benchmarks.md"

CARTPOLE = ["cartpole_ppo_jax.py", "cartpole_rejax.py"]
UPDATE = ["update_ppo_jax.py", "update_rsl_rl.py", "update_skrl.py"]
CASES = [
    ("cartpole", CARTPOLE, {"num-envs": 4, "num-steps": 128}),
    ("cartpole", CARTPOLE, {"num-envs": 64, "num-steps": 128, "learning-rate": 2e-3}),
    ("update", UPDATE, {"num-envs": 64, "num-steps": 24}),
    ("update", UPDATE, {"num-envs": 512, "num-steps": 24}),
    ("update", UPDATE, {"num-envs": 4096, "num-steps": 24}),
]
SPEED = {"cartpole": "steps_per_s", "update": "update_s"}


def main():
    args = parse()
    cases = [case for case in CASES if args.only in (None, case[0])]
    measured = []
    for kind, scripts, size in cases:
        rounds = []
        for number in range(args.rounds):
            rounds.append([run(script, size, args.quick) for script in scripts])
            print(f"{kind} {size}, round {number + 1} of {args.rounds}", flush=True)
            for result in rounds[-1]:
                print(f"  {json.dumps(result)}", flush=True)
        measured.append({"kind": kind, "size": size, "rounds": rounds})
    results = {"machine": machine(), "rounds": args.rounds, "cases": measured}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    REPORT.write_text(report(results))
    print(f"wrote {RESULTS} and {REPORT}")


def run(script: str, size: dict, quick: bool) -> dict:
    """Runs one script in its own environment; returns the line that it prints."""
    options = dict(size)
    if quick and script in CARTPOLE:
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


def machine() -> dict:
    info = Path("/proc/cpuinfo")
    models = [
        line.partition(":")[2].strip()
        for line in (info.read_text().splitlines() if info.exists() else ())
        if line.startswith("model name")
    ]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def report(results: dict) -> str:
    where = results["machine"]
    lines = [
        "# Benchmarks",
        "",
        "Written by `uv run --script benchmarks/run.py`; all numbers of a table come "
        "from one run, in which the libraries took turns. Read the ratios: above 1, "
        "ppo_jax is ahead.",
        "",
        f"Machine: {where['processor']}, {where['cores']} cores, {where['system']}, no "
        f"GPU. Rounds: {results['rounds']}.",
    ]
    for kind, text in (("cartpole", CARTPOLE_TEXT), ("update", UPDATE_TEXT)):
        cases = [case for case in results["cases"] if case["kind"] == kind]
        if cases:
            lines += ["", *text, "", *table(kind, cases)]
    return "\n".join(lines) + "\n"


CARTPOLE_TEXT = [
    "## Training, end to end: gymnax CartPole-v1",
    "",
    "500,000 environment steps, 4 epochs of 4 minibatches, two networks of 64-64 tanh "
    "units, the same hyper-parameters, no evaluation during training. Compiling is "
    "tracing, lowering and XLA together. The return is ppo_jax's mean of the last 100 "
    "episodes of training, and rejax's of 128 episodes afterwards (500 is the best).",
]
UPDATE_TEXT = [
    "## The update alone",
    "",
    "Returns, then 5 epochs of 4 minibatches: observations 48, actions 12, networks "
    "256-128-64 ELU, Adam, adaptive learning rate, float32. The first call holds the "
    "compiling. skrl adapts its rate once per epoch, and clips the value without the "
    "maximum: it does a little less per minibatch. torch has one thread: with two, on "
    "two cores, they starve each other and an update takes seconds.",
]


def table(kind: str, cases: list) -> list[str]:
    """Returns the lines of a table: a row for each case and library."""
    titles, cells, faster = COLUMNS[kind]
    titles = ["envs x steps", "library", *titles]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for case in cases:
        for index, name, version, of in libraries(case):
            row = [size_of(case), f"{name} {version}", *cells(of)]
            row.append(ratio(case, index, faster) if index else "")
            lines.append(f"| {' | '.join(row)} |")
    return lines


# kind of case: (titles, cells of a library, how many times faster ours is)
COLUMNS = {
    "cartpole": (
        ("compile (s)", "steps/s", "return", "ppo_jax / it"),
        lambda of: (
            f"{of('compile_s'):.1f}",
            f"{of('steps_per_s'):,.0f}",
            f"{of('episode_return'):.0f}",
        ),
        lambda ours, its: ours / its,
    ),
    "update": (
        ("first call (s)", "update (ms)", "it / ppo_jax"),
        lambda of: (f"{of('first_s'):.1f}", f"{1000 * of('update_s'):.0f}"),
        lambda ours, its: its / ours,
    ),
}


def libraries(case: dict):
    """Yields index, name, version and the median of a quantity, per library."""
    for index, first in enumerate(case["rounds"][0]):

        def median(name: str, index: int = index) -> float:
            return statistics.median(r[index][name] for r in case["rounds"])

        yield index, first["library"], first["version"], median


def ratio(case: dict, index: int, of) -> str:
    name = SPEED[case["kind"]]
    ratios = [of(r[0][name], r[index][name]) for r in case["rounds"]]
    return f"{statistics.median(ratios):.2f}"


def size_of(case: dict) -> str:
    return f"{case['size']['num-envs']} x {case['size']['num-steps']}"


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["cartpole", "update"])
    parser.add_argument("--quick", action="store_true", help="fewer environment steps")
    return parser.parse_args()


if __name__ == "__main__":
    main()
