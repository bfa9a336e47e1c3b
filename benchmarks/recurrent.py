# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Times the update of an LSTM beside rsl_rl's, in turn, for docs/benchmarks.md.

    uv run --script benchmarks/recurrent.py [--rounds 3] [--threads 1 2]

rsl_rl runs once for each number of threads; the ratio is to the fastest of them.
"""

import argparse
import json
import os

import page
from run import run

SIZES = [{"num-envs": 64, "num-steps": 24}, {"num-envs": 1024, "num-steps": 24}]


def main():
    args = parse()
    cases = []
    for size in SIZES:
        options = size | {"network": "lstm", "repeats": args.repeats}
        rounds = []
        for number in range(args.rounds):
            rounds.append(
                [
                    run("update_ppo_jax.py", options, quick=False),
                    *(
                        run("update_rsl_rl.py", options | {"threads": n}, quick=False)
                        for n in args.threads
                    ),
                ]
            )
            load = os.getloadavg()[0]
            print(f"{size}, round {number + 1} of {args.rounds}, load {load:.1f}")
            for result in rounds[-1]:
                print(f"  {json.dumps(result)}", flush=True)
        cases.append({"kind": "update", "size": size, "rounds": rounds})
    page.keep(page.RECURRENT, {"rounds": args.rounds, "cases": cases})


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    return parser.parse_args()


if __name__ == "__main__":
    main()
