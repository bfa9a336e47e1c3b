"""report.html of a run: what came of it, on one page that one can send.

Everything is read from the run's folder, so that a run that was interrupted, or one in
a simulator, has a report as well; nothing is trained, compiled or downloaded.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from ppo_jax.runs import folders, page
from ppo_jax.runs.charts import Series, line_chart, short
from ppo_jax.runs.config import Config
from ppo_jax.runs.config_fields import flatten
from ppo_jax.runs.metrics import tag_of
from ppo_jax.runs.recorded import Recorded, newest_film, read_run

REPORT = "report.html"
MAX_FILM = 6_000_000  # bytes that a page can be sent with
PERF = ("steps_per_second", "iteration_time", "collection_time", "learning_time")
FIRST = (
    *("episode_return", "episode_length", "kl", "learning_rate", "value_loss"),
    *("surrogate_loss", "behavior_loss", "entropy", "mean_std", "explained_variance"),
)
LOGARITHMIC = ("learning_rate", "value_loss", "behavior_loss")
NAMES = {
    "episode_return": "mean return, last 100 episodes",
    "episode_length": "mean episode length, steps",
    "kl": "KL per minibatch",
    "mean_std": "standard deviation of actions",
    "clip_fraction": "clipped samples, share",
    "steps_per_second": "environment steps per second",
    "iteration_time": "iteration, s",
    "collection_time": "collecting, s",
    "learning_time": "learning, s",
}


class Share(NamedTuple):
    """What a part of the time was."""

    name: str
    seconds: float


def write_report(
    folder: Path, defaults: Config | None = None, no_film: str = ""
) -> Path:
    """Writes report.html into a run's folder; returns its path.

    Args:
      folder: of the run.
      defaults: of its task; what differs is listed. None: they are not known here.
      no_film: why there is no film, where there is none.

    Raises:
      ValueError: the folder holds no run that can be told of.
      OSError: it cannot be written.
    """
    run = read_run(folder)
    body = [
        *_head(run),
        *_clip(run, no_film),
        *_curves(run),
        *_time(run),
        *_configuration(run, defaults),
        *_circumstances(run),
    ]
    return page.write_page(folder / REPORT, f"{run.config.task} {folder.name}", body)


def time_spent(run: Recorded) -> list[Share]:
    """Returns where the time of a run went, as far as its files know."""
    total = lambda name: sum(x for x in run.curves.get(name, ()) if not math.isnan(x))
    noted = folders.sessions(run.manifest)
    starting = sum(session["starting_seconds"] for session in noted)
    collecting, learning = total("collection_time"), total("learning_time")
    together = total("iteration_time") - collecting - learning
    simulating = min(total("log/Perf/simulation_time"), collecting or together)
    if collecting:
        collecting -= simulating
    else:
        together -= simulating
    around = run.curves["seconds"][-1] - total("iteration_time")
    shares = [
        Share("starting and compiling", starting),
        Share("simulating", simulating),
        Share("collecting", collecting),
        Share("learning", learning),
        Share("collecting and learning, one program", together),
        Share("saving, logging, showing", around),
    ]
    return [share for share in shares if share.seconds > 5e-4]


def differences(config: Config, defaults: Config) -> list[tuple[str, str, str]]:
    """Returns (field, value, default) of all that is not as a task has it."""
    ours, theirs = flatten(config), flatten(defaults)
    rows = []
    for path in [*ours, *(path for path in theirs if path not in ours)]:
        values = [side.get(path, "not there") for side in (ours, theirs)]
        if values[0] != values[1]:
            rows.append((path, *map(_shown, values)))
    return rows


def _head(run: Recorded) -> Iterator[str]:
    done, wanted = run.iterations[-1], run.config.max_iterations
    state = "" if done >= wanted else f", interrupted: {wanted} were asked for"
    seed = f"seed {run.config.seed}"
    yield f"<h1>{escape(run.config.task)}</h1>"
    yield (
        f'<p class="soft">{escape(run.folder.name)}, {seed}, {done} iterations'
        f"{state}</p>"
    )
    yield f"<p>{escape(result(run))}</p>"
    tiles = [
        (_number(run.last("episode_return")), "mean return of the last 100 episodes"),
        (_number(run.last("episode_length")), "mean episode length, steps"),
        (short(done * run.steps_per_iteration), "environment steps"),
        (_duration(run.curves["seconds"][-1]), "of training"),
    ]
    speeds = [x for x in run.curves.get("steps_per_second", ()) if x > 0]
    if speeds:
        tiles.append((short(statistics.median(speeds)), "steps per second, median"))
    success = run.last("log/Metrics/success_rate")
    if not math.isnan(success):
        tiles.insert(1, (f"{100 * success:.4g} %", "success, last iteration"))
    yield f'<div class="tiles">{"".join(page.tile(*x) for x in tiles)}</div>'


def title_of(name: str) -> str:
    """Returns what stands above the chart of a curve."""
    if name.startswith("log/"):
        return tag_of(name)
    return NAMES.get(name, name.replace("_", " "))


def result(run: Recorded) -> str:
    """Returns what came of a run in a sentence."""
    value, goal = run.last("episode_return"), run.config.solved_return
    if math.isnan(value):
        return "No episode has ended yet."
    if goal is None:
        return f"The task names no goal; the return at the end is {_number(value)}."
    solved = run.solved_at()
    if solved is None:
        return f"Not solved: the goal is a mean return of {goal:g}."
    steps = short(solved * run.steps_per_iteration)
    return f"Solved: a mean return of {goal:g} at iteration {solved}, {steps} steps."


def _clip(run: Recorded, reason: str) -> Iterator[str]:
    film = newest_film(run.folder)
    if film and film.stat().st_size <= MAX_FILM:
        yield "<h2>The policy</h2>"
        yield page.film(film, f"{run.config.task}, {film.name}")
    elif film:
        name = escape(f"{film.parent.name}/{film.name}")
        yield f'<p class="soft">The film {name} is too large for this page.</p>'
    elif reason:
        yield f'<p class="soft">{escape(reason)}</p>'


def _curves(run: Recorded) -> Iterator[str]:
    names = [name for name in run.curves if name not in ("iteration", "seconds")]
    learned = [name for name in FIRST if name in names]
    logged = [name for name in names if name.startswith("log/")]
    logged = [name for name in logged if not name.startswith("log/Perf/")]
    others = [name for name in names if name not in (*learned, *PERF)]
    others = [name for name in others if not name.startswith("log/")]
    for title, group in (
        ("Curves", learned),
        ("What the task reports", logged),
        ("More of the update", others),
    ):
        if group:
            yield f"<h2>{title}</h2>"
            yield _charts(run, group)


def _charts(run: Recorded, names: Sequence[str]) -> str:
    return f'<div class="charts">{"".join(_chart(run, name) for name in names)}</div>'


def _chart(run: Recorded, name: str) -> str:
    title = title_of(name)
    goal = run.config.solved_return if name == "episode_return" else None
    series = [Series("", run.iterations, run.curves[name])]
    chart = line_chart(series, title, "iteration", name in LOGARITHMIC, goal)
    return page.card(title, chart, _number(run.last(name)))


def _time(run: Recorded) -> Iterator[str]:
    shares = time_spent(run)
    total = sum(share.seconds for share in shares)
    yield "<h2>Where the time went</h2>"
    if total:
        bars = "".join(
            f'<i class="c{i}" style="flex:{share.seconds / total:.4f}"></i>'
            for i, share in enumerate(shares)
        )
        rows = [
            (x.name, _duration(x.seconds), f"{x.seconds / total:.0%}") for x in shares
        ]
        yield f'<div class="bar">{bars}</div>'
        columns = ("part", "time", "share")
        yield page.table(columns, rows, numbers=(1, 2), keys=range(len(rows)))
    if not folders.sessions(run.manifest):
        yield '<p class="soft">How long starting and compiling took is not known.</p>'
    perf = [name for name in run.curves if name.startswith("log/Perf/")]
    perf = [name for name in PERF if name in run.curves] + perf
    yield _charts(run, perf) if perf else ""


def _configuration(run: Recorded, defaults: Config | None) -> Iterator[str]:
    yield "<h2>Configuration</h2>"
    whose = "the task's defaults"
    if defaults is None:
        defaults, whose = Config(task=run.config.task), "this library's defaults"
        yield '<p class="soft">What the task itself asks for is not known here.</p>'
    rows = differences(run.config, defaults)
    if rows:
        yield page.table(("field", "this run", whose), rows)
    else:
        yield f"<p>As {whose}, without a change.</p>"


def _circumstances(run: Recorded) -> Iterator[str]:
    yield "<h2>Versions and machine</h2>"
    known = run.manifest.get("metadata", {})
    rows = [(name, str(value)) for name, value in known.items() if value != ""]
    if not rows:
        yield '<p class="soft">run.json cannot be read.</p>'
        return
    created = str(run.manifest.get("created_at", ""))[:19].replace("T", " ")
    yield page.table(("what", "which"), [("started", created), *rows])
    resumed = [x["from"] for x in folders.sessions(run.manifest) if x["from"]]
    if resumed:
        yield f"<p>Resumed at iteration {', '.join(map(str, resumed))}.</p>"
    for earlier in run.manifest.get("earlier_versions", []):
        changed = {k: v for k, v in earlier.items() if known.get(k) != v and v}
        words = ", ".join(f"{name} {value}" for name, value in changed.items())
        yield f'<p class="soft">{escape(f"Before it was resumed: {words}.")}</p>'


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else str(value)
    return str(value) or "-"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else short(value)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
