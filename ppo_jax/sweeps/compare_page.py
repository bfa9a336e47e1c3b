"""compare.html: the curves of several runs over each other, and a table."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from ppo_jax.runs import page
from ppo_jax.runs.charts import Series, line_chart
from ppo_jax.runs.report import LOGARITHMIC, title_of
from ppo_jax.sweeps.comparison import COLUMNS, Group, curves_of, rows_of, steps_of

COMPARE = "compare.html"
OVERLAID = (
    *("episode_return", "log/Metrics/success_rate", "episode_length", "kl"),
    *("value_loss", "behavior_loss", "entropy", "explained_variance"),
)
STEPS, SECONDS = "environment steps", "seconds of training"


def write_comparison(path: Path, groups: Sequence[Group]) -> Path:
    """Writes the page; returns its path.

    Args:
      path: of the file.
      groups: from `groups_of`, the best first.
    """
    runs = [run for group in groups for run in group.runs]
    tasks = " and ".join(dict.fromkeys(run.config.task for run in runs))
    goals = {run.config.solved_return for run in runs}
    goal = goals.pop() if len(goals) == 1 else None
    charts = [_over_steps(groups, name, goal) for name in _shared(groups)]
    charts.insert(1, _over_seconds(groups, goal))
    body = [
        f"<h1>{escape(tasks)}</h1>",
        f'<p class="soft">{len(runs)} runs, {len(groups)} configurations; line: mean '
        "over the seeds; band: its 95 % t interval; thin: single runs</p>",
        page.table(
            COLUMNS, rows_of(groups), range(1, len(COLUMNS)), range(len(groups))
        ),
        '<p class="soft">Final return: mean over the last tenth of the iterations, '
        "then over the seeds, with a 95 % t interval.</p>",
        f'<h2>Curves</h2><div class="charts">{"".join(charts)}</div>',
        *_members(groups),
    ]
    return page.write_page(path, f"{tasks}: {len(runs)} runs", body)


def _shared(groups: Sequence[Group]) -> list[str]:
    """Returns the curves that every run has, the return first."""
    tables = [run.curves for group in groups for run in group.runs]
    return [name for name in OVERLAID if all(name in table for table in tables)]


def _over_steps(groups: Sequence[Group], name: str, goal: float | None) -> str:
    means, single = [], []
    for color, group in enumerate(groups):
        steps, values = curves_of(group, name)
        mean, low, high = (
            [getattr(v, x) for v in values] for x in ("mean", "low", "high")
        )
        is_alone, is_log = len(group.runs) == 1, name in LOGARITHMIC
        band = ((), ()) if is_alone or is_log else (low, high)
        means.append(Series(group.label, steps, mean, color, *band))
        if not is_alone:
            single += [
                Series(
                    run.folder.name,
                    steps_of(run),
                    run.curves[name],
                    color,
                    is_faint=True,
                )
                for run in group.runs
            ]
    title = title_of(name)
    goal = goal if name == "episode_return" else None
    chart = line_chart([*means, *single], title, STEPS, name in LOGARITHMIC, goal)
    return page.card(title, chart)


def _over_seconds(groups: Sequence[Group], goal: float | None) -> str:
    name, title = "episode_return", "mean return, over time"
    series = [
        Series(run.folder.name, run.curves["seconds"], run.curves[name], color)
        for color, group in enumerate(groups)
        for run in group.runs
        if name in run.curves
    ]
    return page.card(title, line_chart(series, title, SECONDS, goal=goal))


def _members(groups: Sequence[Group]) -> Iterator[str]:
    yield "<h2>Runs</h2>"
    rows, keys = [], []
    for color, group in enumerate(groups):
        for run in group.runs:
            seed, done = str(run.config.seed), str(run.iterations[-1])
            value = f"{run.last('episode_return'):.4g}"
            rows.append((run.folder.name, run.config.task, seed, done, value))
            keys.append(color)
    columns = ("run", "task", "seed", "iterations", "return at the end")
    yield page.table(columns, rows, (2, 3, 4), keys)
