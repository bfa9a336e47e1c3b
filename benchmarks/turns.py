"""Libraries that train in turn, one iteration each, on one simulator's clock.

Each runs its own training loop in a process of its own. All are open at once, and while
one works the others wait: what else the machine does in those seconds slows all of them
alike. The clock sits in the simulator's `step`, the same for all: an iteration lasts
from the first call of one to the first call of the next, and what is not inside `step`
is the library's.
"""

import json
import statistics
import subprocess
import sys
import time
from typing import Any, NamedTuple

WARM_UP = 5  # iterations in which programs are compiled
WAITS, RESULT = "worker waits", "worker's result "  # how its lines to us begin


class Call(NamedTuple):
    """When a call of `step` came, when it was let through, and when it ended."""

    arrived: float
    started: float
    ended: float


# -- of the script


def measure_all(commands: list[list[str]]) -> list[dict]:
    """Runs the commands of all workers, one iteration of each in turn."""
    workers = []
    for command in commands:
        workers.append(_start(command))
        _until_it_waits(workers[-1])
    results: list[dict | None] = [None]
    while None in results:
        results = [_take_turn(worker) for worker in workers]
    return [result for result in results if result]


def _start(command: list[str]) -> subprocess.Popen:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *command], **pipes)


def _take_turn(worker: Any) -> dict | None:
    """Lets a worker go on for an iteration; returns its result after the last."""
    worker.stdin.write("go on\n")
    worker.stdin.flush()
    return _until_it_waits(worker)


def _until_it_waits(worker: Any) -> dict | None:
    for line in worker.stdout:
        if line.startswith(WAITS):
            return None
        if line.startswith(RESULT):
            worker.communicate()
            return json.loads(line.removeprefix(RESULT))
    raise RuntimeError(f"a library failed: {' '.join(worker.args)}")


def rows(results: list[dict], libraries: tuple[str, ...]) -> list[str]:
    """Returns a table in Markdown: medians of the rounds, for each size and library.

    Args:
      results: of `worker_result`, each with the "round" that it is of.
      libraries: the first is the one that the others are compared with.
    """
    lines = [
        "| envs | library | env steps/s | iteration (ms) | outside `env.step` (ms) "
        f"| share | {libraries[0].removeprefix('ppo_jax, ')} / it |",
        "|---|---|---|---|---|---|---|",
    ]
    for num_envs in dict.fromkeys(result["num_envs"] for result in results):
        of_size = [result for result in results if result["num_envs"] == num_envs]
        by_library = {
            name: [result for result in of_size if result["library"] == name]
            for name in libraries
        }
        for name, runs in by_library.items():
            speed, whole, outside = (
                statistics.median(run[key] for run in runs)
                for key in ("steps_per_s", "iteration_s", "outside_s")
            )
            share = statistics.median(
                run["outside_s"] / run["iteration_s"] for run in runs
            )
            pairs = zip(by_library[libraries[0]], runs, strict=True)
            ratio = statistics.median(
                a["steps_per_s"] / b["steps_per_s"] for a, b in pairs
            )
            ahead = "" if name == libraries[0] else f"{ratio:.2f}"
            lines.append(
                f"| {num_envs} | {name} | {speed:,.0f} | {1000 * whole:.0f} | "
                f"{1000 * outside:.0f} | {share:.1%} | {ahead} |"
            )
    return lines


# -- of a worker


def time_calls(env: Any, calls: list[Call], num_steps: int) -> None:
    """Notes when each call of `step` begins and ends; waits before each iteration."""
    step = env.step

    def timed(action: Any) -> Any:
        arrived = time.perf_counter()
        if len(calls) % num_steps == 0:
            print(f"\n{WAITS}", flush=True)
            sys.stdin.readline()
        started = time.perf_counter()
        result = step(action)
        calls.append(Call(arrived, started, time.perf_counter()))
        return result

    env.step = timed


def worker_result(
    library: str, num_envs: int, iterations: int, calls: list[Call], num_steps: int
) -> dict:
    """Returns the median iteration, and its part outside of `step`."""
    whole, outside = [], []
    warm_up = min(WARM_UP, iterations - 2)
    for first in range(warm_up * num_steps, len(calls) - num_steps, num_steps):
        seconds = calls[first + num_steps].arrived - calls[first].started
        steps = calls[first : first + num_steps]
        whole.append(seconds)
        outside.append(seconds - sum(call.ended - call.started for call in steps))
    iteration, rest = statistics.median(whole), statistics.median(outside)
    return {
        "library": library,
        "num_envs": num_envs,
        "iterations": len(whole),
        "iteration_s": round(iteration, 4),
        "outside_s": round(rest, 4),
        "steps_per_s": round(num_envs * num_steps / iteration),
    }


def tell(result: dict) -> None:
    """Ends a worker's output with its result."""
    print(f"\n{RESULT}{json.dumps(result)}", flush=True)
