"""The pictures of a sweep: its curves, its response, its evolution."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ppo_jax.runs.plots import new_figure, save_figure

SWEEP_CURVES = "learning_curves.png"
RESPONSE = "response.png"
EVOLUTION = "evolution.png"
NUM_COLORS = 10
NUM_TICKS = 6  # values that are written below an axis


def save_sweep_curves(
    folder: Path,
    title: str,
    curves: Sequence[tuple[str, np.ndarray, np.ndarray]],
    goal: float | None = None,
) -> Path:
    """Draws the mean return of each setting of a sweep and the spread of its seeds.

    The band is one standard deviation wide on either side. Settings beyond the first
    ten are grey.

    Args:
      folder: of the sweep.
      title: above the picture.
      curves: (label, env steps [I], return [seeds, I]) of each setting, best first.
      goal: a return to mark.

    Returns:
      The picture's path.
    """
    figure = new_figure((9, 5.5), title)
    axis = figure.subplots()
    for label, env_steps, returns in reversed(curves[NUM_COLORS:]):
        axis.plot(env_steps, _over_seeds(np.nanmean, returns), color="0.8", lw=0.8)
        del label
    for index, (label, env_steps, returns) in enumerate(curves[:NUM_COLORS]):
        mean, spread = (_over_seeds(f, returns) for f in (np.nanmean, np.nanstd))
        color, order = f"C{index}", 20 - index  # the best on top
        axis.plot(env_steps, mean, color=color, label=label, zorder=order)
        axis.fill_between(
            env_steps,
            mean - spread,
            mean + spread,
            color=color,
            alpha=0.15 if len(curves) < 5 else 0.06,
            lw=0,
            zorder=order - 10,
        )
    if goal is not None:
        axis.axhline(goal, color="gray", linestyle="--", linewidth=1)
        axis.text(0, goal, f" goal {goal:g}", va="bottom", fontsize=8)
    rest = len(curves) - NUM_COLORS
    axis.legend(
        title=f"best {NUM_COLORS}; {rest} more in grey" if rest > 0 else None,
        fontsize=8,
        title_fontsize=8,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )
    axis.set_xlabel("environment steps of a member")
    axis.set_ylabel("mean return (last 100 episodes)")
    axis.grid(alpha=0.3)
    return save_figure(figure, folder / SWEEP_CURVES)


def save_response(
    folder: Path,
    title: str,
    fields: Mapping[str, Sequence[Any]],
    final_return: Sequence[float],
) -> Path:
    """Draws the final return against each swept field.

    A dot is a setting, a line joins the means over all settings of a value. Two fields
    of which every combination is there are drawn as a heat map as well.

    Args:
      folder: of the sweep.
      title: above the picture.
      fields: {name: value of each setting}.
      final_return: of each setting; NaN is left out.

    Returns:
      The picture's path.
    """
    returns = np.array(final_return, float)
    has_map = len(fields) == 2 and _is_grid(*fields.values())
    panels = len(fields) + has_map
    columns = min(panels, 3)
    rows = -(-panels // columns)
    figure = new_figure((4.2 * columns, 3.6 * rows), title)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, (name, values) in zip(axes, fields.items(), strict=False):
        _draw_response(axis, name, values, returns)
    if has_map:
        _draw_map(figure, axes[len(fields)], fields, returns)
    for axis in axes[panels:]:
        axis.axis("off")
    return save_figure(figure, folder / RESPONSE)


def save_evolution(
    folder: Path,
    title: str,
    env_steps: np.ndarray,
    values: Mapping[str, np.ndarray],
    parent: np.ndarray,
) -> Path:
    """Draws what became of the members of a population that evolves.

    A line is a member, a dot where it went on from another one.

    Args:
      folder: of the sweep.
      title: above the picture.
      env_steps: [I] of a member.
      values: {name: [P, I]}, a panel each.
      parent: [P, I], whom each member continues after the iteration.

    Returns:
      The picture's path.
    """
    figure = new_figure((9, 2.4 * len(values) + 0.6), title)
    panels = figure.subplots(len(values), 1, sharex=True, squeeze=False)[:, 0]
    moved = parent != np.arange(len(parent))[:, None]
    for axis, (name, rows) in zip(panels, values.items(), strict=True):
        for index, (row, moves) in enumerate(zip(rows, moved, strict=True)):
            color = f"C{index % NUM_COLORS}"
            axis.plot(env_steps, row, color=color, lw=1.2)
            axis.plot(env_steps[moves], row[moves], "o", color=color, ms=4)
        if np.nanmin(rows) > 0 and np.nanmax(rows) >= 8 * np.nanmin(rows):
            axis.set_yscale("log")
        axis.set_ylabel(name)
        axis.grid(alpha=0.3)
    panels[-1].set_xlabel("environment steps of a member")
    return save_figure(figure, folder / EVOLUTION)


def _draw_response(
    axis: Any, name: str, values: Sequence[Any], returns: np.ndarray
) -> None:
    levels = _levels(values)
    numeric = all(_is_number(level) for level in levels)
    place = {
        str(level): level if numeric else index for index, level in enumerate(levels)
    }
    x = np.array([place[str(value)] for value in values], float)
    axis.scatter(x, returns, s=18, alpha=0.6, color="tab:blue", lw=0)
    if len(levels) < len(values):
        at = sorted(place.values())
        means = [_over_seeds(np.nanmean, returns[x == level, None])[0] for level in at]
        axis.plot(at, means, color="tab:blue", lw=1.2)
    if numeric and min(x) > 0 and max(x) >= 8 * min(x):
        axis.set_xscale("log")
    if numeric and len(levels) <= NUM_TICKS:
        axis.set_xticks(levels, [_short(level) for level in levels])
        axis.minorticks_off()
    if not numeric:
        axis.set_xticks(range(len(levels)), [str(level) for level in levels])
        axis.margins(x=0.2)
    axis.set_xlabel(name)
    axis.set_ylabel("final return")
    axis.grid(alpha=0.3)


def _draw_map(
    figure: Any,
    axis: Any,
    fields: Mapping[str, Sequence[Any]],
    returns: np.ndarray,
) -> None:
    (x_name, x_values), (y_name, y_values) = fields.items()
    x_levels, y_levels = _levels(x_values), _levels(y_values)
    cells = np.full((len(y_levels), len(x_levels)), np.nan)
    for x, y, value in zip(x_values, y_values, returns, strict=True):
        cells[y_levels.index(y), x_levels.index(x)] = value
    image = axis.imshow(cells, origin="lower", aspect="auto", cmap="viridis")
    middle = np.nanmean(image.get_clim())
    for (row, column), value in np.ndenumerate(cells):
        color = "white" if not value > middle else "black"
        axis.text(column, row, f"{value:.3g}", color=color, ha="center", va="center")
    axis.set_xticks(range(len(x_levels)), [_short(level) for level in x_levels])
    axis.set_yticks(range(len(y_levels)), [_short(level) for level in y_levels])
    axis.set_xlabel(x_name)
    axis.set_ylabel(y_name)
    figure.colorbar(image, ax=axis, label="final return")


def _levels(values: Sequence[Any]) -> list[Any]:
    """Returns the different values, in order where they are numbers."""
    levels = list({str(value): value for value in values}.values())
    return sorted(levels) if all(_is_number(level) for level in levels) else levels


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_grid(x_values: Sequence[Any], y_values: Sequence[Any]) -> bool:
    pairs = {(str(x), str(y)) for x, y in zip(x_values, y_values, strict=True)}
    num_x, num_y = len(_levels(x_values)), len(_levels(y_values))
    return min(num_x, num_y) > 1 and len(pairs) == len(x_values) == num_x * num_y


def _short(value: Any) -> str:
    return f"{value:g}" if _is_number(value) else str(value)


def _over_seeds(statistic: Any, returns: np.ndarray) -> np.ndarray:
    """Applies a statistic to each column, NaN where the column has no number."""
    result = np.full(returns.shape[1], np.nan)
    known = np.isfinite(returns).any(axis=0)
    result[known] = statistic(returns[:, known], axis=0)
    return result
