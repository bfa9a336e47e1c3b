"""What the scripts that draw learning curves share: train.py, a goal, a picture."""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"


def train(words: str) -> list[float]:
    """Returns the mean return of the last 100 episodes after each iteration.

    Args:
      words: what a user types after `train.py`.
    """
    command = [sys.executable, str(ROOT / "train.py"), *words.split()]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (table,) = Path(folder).glob("logs/ppo_jax/*/*/metrics.csv")
        with table.open() as file:
            cells = [row["episode_return"] for row in csv.DictReader(file)]
    return [round(float(cell or "nan"), 3) for cell in cells]


def first_at(curve: list[float], goal: float) -> int | None:
    """Returns the first iteration, counted from 1, with the goal; None: never."""
    return next((i for i, value in enumerate(curve, 1) if value >= goal), None)


def draw(
    path: Path,
    title: str,
    rows: dict[str, dict[str, dict]],
    goal: float,
    iterations: int,
) -> None:
    """Draws a row of panels for each task, with a curve for each seed.

    Args:
      path: of the picture.
      title: of it.
      rows: {task: {who: {seed: returns}}}; an empty name of a task is not written.
      goal: a line across, and where each curve first comes to it.
      iterations: that are drawn.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(len(panels) for panels in rows.values())
    figure = Figure(figsize=(11, 3.6 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), columns, sharey=True, squeeze=False)
    for axes_of_row, (task, panels) in zip(grid, rows.items(), strict=True):
        for axes, (who, of_seed) in zip(axes_of_row, panels.items(), strict=True):
            for seed, curve in of_seed.items():
                first = first_at(curve, goal)
                label = f"seed {seed}: {f'{goal:g} at {first}' if first else 'later'}"
                axes.plot(range(1, len(curve) + 1), curve, label=label)
            axes.axhline(goal, color="gray", linestyle="--", linewidth=1)
            axes.set(title=", ".join(filter(None, (task, who))), xlabel="iteration")
            axes.set_xlim(0, iterations)
            axes.grid(alpha=0.3)
            axes.legend(loc="best")
        axes_of_row[0].set_ylabel("mean return of 100 episodes")
    figure.suptitle(title)
    figure.savefig(path, dpi=100)
