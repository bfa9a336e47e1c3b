"""Times four learners in one real simulator beside four runs, one after another.

    uv run --python 3.12 --extra isaaclab --extra sweep benchmarks/isaac_population.py

Both as a user types them, whole processes from start to end: `sweep.py --population 4`
with 1024 environments and four learning rates, and `train.py` four times with 256
environments and one of the rates. Adaptive rates would hide the difference, so they are
fixed. Writes docs/isaac_population.md and the curves of both.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import page

os.environ.setdefault("OMP_NUM_THREADS", "1")

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
REPORT = ROOT / "docs" / "isaac_population.md"
PICTURE = ROOT / "docs" / "images" / "isaac_population.png"

TASK = "Isaac-Cartpole-Direct"
RATES = ("3e-4", "1e-3", "3e-3", "1e-2")
NUM_ENVS = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=100)
    args = parser.parse_args()
    together, seconds = population(args.iterations)
    print(f"population: {seconds:.0f} s", flush=True)
    alone, times = {}, []
    for rate in RATES:
        alone[rate], spent = single(rate, args.iterations)
        times.append(spent)
        print(f"alone, {rate}: {spent:.0f} s", flush=True)
    draw(together, alone)
    REPORT.write_text(report(args.iterations, seconds, times, together, alone))
    print(f"wrote {REPORT} and {PICTURE}")


def population(iterations: int) -> tuple[dict, float]:
    """Returns the curve of each rate, and the seconds of the whole process."""
    import pyarrow.parquet as parquet

    words = f"--population {len(RATES)} --num_envs {NUM_ENVS}"
    swept = f"learning_rate={','.join(RATES)}"
    with tempfile.TemporaryDirectory() as folder:
        seconds = run("sweep.py", f"{words} {swept}", iterations, folder)
        (path,) = Path(folder).glob("logs/ppo_jax/sweeps/*/table.parquet")
        rows = parquet.read_table(path).to_pylist()
    curves = {
        rate: [row["episode_return"] for row in rows if row["member"] == member]
        for member, rate in enumerate(RATES)
    }
    return curves, seconds


def single(rate: str, iterations: int) -> tuple[list, float]:
    words = f"--num_envs {NUM_ENVS // len(RATES)} learning_rate={rate} --logger none"
    with tempfile.TemporaryDirectory() as folder:
        seconds = run("train.py", words, iterations, folder)
        (path,) = Path(folder).glob("logs/ppo_jax/*/*/metrics.csv")
        with path.open() as file:
            cells = [row["episode_return"] for row in csv.DictReader(file)]
    return [float(cell or "nan") for cell in cells], seconds


def run(script: str, words: str, iterations: int, folder: str) -> float:
    """Runs a script of the repository in a folder; returns how long it took."""
    common = f"--task {TASK} --device cpu --max_iterations {iterations} schedule=fixed"
    command = [sys.executable, str(ROOT / script), *f"{common} {words}".split()]
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def draw(together: dict, alone: dict) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    titles = "four members of one simulator", "four runs, one after another"
    panels = figure.subplots(1, 2, sharey=True)
    for axes, title, curves in zip(panels, titles, (together, alone), strict=True):
        for rate, curve in curves.items():
            axes.plot(range(1, len(curve) + 1), curve, label=f"learning rate {rate}")
        axes.set(title=title, xlabel="iteration")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("mean return of 100 episodes")
    panels[0].legend(loc="lower right")
    figure.suptitle(f"{TASK}, {NUM_ENVS // len(RATES)} environments each")
    figure.savefig(PICTURE, dpi=100)


def report(
    iterations: int, seconds: float, times: list[float], together: dict, alone: dict
) -> str:
    command = f"sweep.py --population {len(RATES)} --num_envs {NUM_ENVS}"
    lines = [
        f"# {TASK}: a population beside single runs",
        "",
        "Written by `benchmarks/isaac_population.py`. Whole processes, from start "
        f"to end, one after another: {iterations} iterations, {NUM_ENVS // len(RATES)} "
        f"environments for each learner, on {page.named(page.machine())}, no GPU.",
        "",
        "| | seconds |",
        "|---|---|",
        f"| `{command}` | {seconds:.0f} |",
        f"| `train.py`, {len(RATES)} times | {sum(times):.0f} |",
        f"| ratio | {sum(times) / seconds:.2f} |",
        "",
        "Mean return of 100 episodes at the end (5 is the best):",
        "",
        "| learning rate | in the population | alone |",
        "|---|---|---|",
        *(f"| {k} | {together[k][-1]:.2f} | {alone[k][-1]:.2f} |" for k in RATES),
        "",
        "A member and the run alone have the same seed of their weights, and other "
        "environments: with 256 of them this task depends much on chance.",
        "",
        f"![Four curves of each](images/{PICTURE.name})",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
