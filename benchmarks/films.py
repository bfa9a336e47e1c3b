"""What films beside training cost it: the same run in turn, with and without them.

    uv run benchmarks/films.py

Prints how long an iteration takes in the mean, without the first five, and the ratio of
each pair. What is waited for the last film, after the last iteration, is not in it.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from scaling import ROOT
from timing import iteration_times

WARM_UP = 5  # iterations


def main() -> None:
    """Measures in turn and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="Cartpole")
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--video_interval", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print("| round | without | with films | ratio |\n|---|---|---|---|")
    ratios = []
    for number in range(arguments.rounds):
        order = (0, arguments.video_interval)[:: 1 if number % 2 else -1]
        seconds = {interval: measure(arguments, interval) for interval in order}
        without, filmed = seconds[0], seconds[arguments.video_interval]
        ratios.append(filmed / without)
        print(
            f"| {number + 1} | {1e3 * without:.1f} ms | {1e3 * filmed:.1f} ms | "
            f"{ratios[-1]:.3f} |",
            flush=True,
        )
    print(f"median of the ratios: {statistics.median(ratios):.3f}")


def measure(arguments: argparse.Namespace, interval: int) -> float:
    """Returns the mean time of an iteration, in s."""
    command = [
        *(sys.executable, str(ROOT / "train.py"), "--task", arguments.task),
        *("--max_iterations", str(arguments.iterations), "--logger", "none"),
    ]
    if interval:
        command += ["--video_interval", str(interval)]
    with tempfile.TemporaryDirectory() as home:
        subprocess.run(command, cwd=home, check=True, stdout=subprocess.DEVNULL)
        return statistics.mean(iteration_times(Path(home))[WARM_UP:])


if __name__ == "__main__":
    main()
