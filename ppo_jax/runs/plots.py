"""The picture of a run, and what every picture begins and ends with."""

from pathlib import Path
from typing import Any

import numpy as np

from ppo_jax.runs import metrics

LEARNING_CURVE = "learning_curve.png"


def save_learning_curve(folder: Path, title: str, goal: float | None = None) -> Path:
    """Draws return and episode length, KL and learning rate of a run into a PNG.

    Args:
      folder: of the run; its table is read.
      title: above the picture.
      goal: a return to mark.

    Returns:
      The picture's path.
    """
    table = {
        name: np.array(column) for name, column in metrics.read_table(folder).items()
    }
    iteration = table["iteration"]
    figure, axes = _panels(title)
    panels = [
        ("episode_return", "mean return (last 100 episodes)", "tab:blue"),
        ("episode_length", "mean episode length (steps)", "tab:green"),
        ("kl", "KL per minibatch", "tab:orange"),
        ("learning_rate", "learning rate", "tab:red"),
    ]
    for axis, (name, label, color) in zip(axes.flat, panels, strict=True):
        if name in table:
            axis.plot(iteration, table[name], color=color)
        axis.set_title(label, fontsize=10)
        axis.grid(alpha=0.3)
    if goal is not None:
        axes[0, 0].axhline(goal, color="gray", linestyle="--", linewidth=1)
        axes[0, 0].text(iteration[0], goal, f" goal {goal:g}", va="bottom", fontsize=8)
    return save_figure(figure, folder / LEARNING_CURVE)


def rehearse() -> None:
    """Draws an empty one, which loads fonts and more, for `save_learning_curve`."""
    _panels("")[0].canvas.draw()


def _panels(title: str) -> tuple[Any, Any]:
    """Returns a figure and its four axes.

    Where they lie is fixed: to look for it would take longer than to draw.
    """
    figure = new_figure((9, 6), title)
    figure.set_layout_engine("none")
    places = {"left": 0.085, "right": 0.985, "bottom": 0.08, "top": 0.89}
    axes = figure.subplots(2, 2, gridspec_kw=places | {"wspace": 0.2, "hspace": 0.24})
    axes[1, 1].set_yscale("log")
    for axis in axes[1]:
        axis.set_xlabel("iteration")
    return figure, axes


def new_figure(size: tuple[float, float], title: str) -> Any:
    """Returns a figure of a size in inches that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    return figure


def save_figure(figure: Any, path: Path) -> Path:
    """Writes a figure as a PNG; returns its path.

    `savefig` would draw it twice, the first time for what it may cut off at the edges.
    """
    figure.set_dpi(110)
    figure.canvas.print_png(path)
    return path
