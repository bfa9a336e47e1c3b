"""Time per iteration of one policy in 1, 2, 4 processes, and what meeting costs.

    uv run benchmarks/scaling.py

Each process has as many environments. Beside P processes that learn one policy stand P
that learn each its own at the same time: they share the machine alike and send nothing,
so that the difference is what is spent in collectives and in waiting for each other.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import iteration_times

ROOT = Path(__file__).parents[1]
NETWORK = ("actor.hidden_dims=[256,128,64]", "critic.hidden_dims=[256,128,64]")


def main() -> None:
    """Measures and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="Cartpole")
    parser.add_argument("--num_envs", type=int, default=1024, help="of each process")
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    arguments = parser.parse_args()
    print("| processes | one policy | one each | difference |\n|---|---|---|---|")
    for count in arguments.processes:
        together = measure(arguments, count, 1)
        alone = measure(arguments, 1, count)
        print(
            f"| {count} | {1e3 * together:.0f} ms | {1e3 * alone:.0f} ms | "
            f"{1e3 * (together - alone):.0f} ms |",
            flush=True,
        )


def measure(arguments: argparse.Namespace, processes: int, runs: int) -> float:
    """Returns the median time of an iteration, in s, of runs at the same time."""
    command = [
        *(sys.executable, str(ROOT / "train.py"), "--task", arguments.task),
        *("--num_envs", str(processes * arguments.num_envs)),
        *("--max_iterations", str(arguments.iterations), "--logger", "none"),
        *("save_interval=100000", *NETWORK),
    ]
    if processes > 1:
        command += ["--num_processes", str(processes)]
    with tempfile.TemporaryDirectory() as home:
        folders = [Path(home) / str(number) for number in range(runs)]
        started = []
        for folder in folders:
            folder.mkdir()
            started.append(
                subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
            )
        if any(list(map(subprocess.Popen.wait, started))):
            raise SystemExit(f"{' '.join(command)} has failed")
        later = lambda times: times[len(times) // 2 :]
        return statistics.median(x for y in folders for x in later(iteration_times(y)))


if __name__ == "__main__":
    main()
