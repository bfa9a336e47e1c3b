"""What a run shows: a live panel, or plain lines where there is no terminal."""

import datetime
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from ppo_jax.runs.callbacks import Progress

SECONDS_BETWEEN_LINES = 2.0


class Display(NamedTuple):
    """How progress is shown; `context` is open while training."""

    context: AbstractContextManager[Any]
    note: Callable[[str], None]
    show: Callable[[Any], None]  # (Progress), of a run or of a sweep


NO_DISPLAY = Display(nullcontext(), lambda text: None, lambda progress: None)


def open_display() -> Display:
    """Returns a live panel on a terminal, and plain lines elsewhere."""
    from rich.console import Console

    console = Console(highlight=False)
    return _live_panel(console) if console.is_terminal else _plain_lines()


def open_sweep_display() -> Display:
    """Returns the same for `sweep_run.Progress`: a bar, or plain lines."""
    from rich.console import Console

    console = Console(highlight=False)
    return _sweep_bar(console) if console.is_terminal else _sweep_lines()


def describe(progress: Progress) -> dict[str, str]:
    """Returns what is shown of an iteration: {name: value}, the same everywhere."""
    s = progress.scalars
    losses = {
        "value loss": _number(s.get("value_loss"), ".3g"),
        "surrogate": _number(s.get("surrogate_loss"), ".3g"),
        "entropy": _number(s.get("entropy"), ".3g"),
        "kl": _number(s.get("kl"), ".3g"),
    }
    if "behavior_loss" in s:
        losses = {"behavior loss": _number(s["behavior_loss"], ".3g")}
    return {
        "iteration": f"{progress.iteration}/{progress.max_iterations}",
        "steps/s": f"{s['steps_per_second']:,.0f}",
        "return": _number(s.get("episode_return"), ".2f"),
        "length": _number(s.get("episode_length"), ".1f"),
        **losses,
        "lr": _number(s.get("learning_rate"), ".2e"),
        "eta": str(datetime.timedelta(seconds=round(progress.seconds_left))),
    }


def _number(value: float | None, style: str) -> str:
    return "-" if value is None or math.isnan(value) else format(value, style)


def _plain_lines() -> Display:
    last_line = -math.inf

    def show(progress: Progress) -> None:
        nonlocal last_line
        is_last = progress.iteration == progress.max_iterations
        if time.monotonic() - last_line < SECONDS_BETWEEN_LINES and not is_last:
            return
        last_line = time.monotonic()
        cells = [f"{name} {value}" for name, value in describe(progress).items()]
        print("  ".join(cells), flush=True)

    return Display(nullcontext(), lambda text: print(text, flush=True), show)


def _sweep_lines() -> Display:
    last_line = -math.inf

    def show(progress: Any) -> None:
        nonlocal last_line
        is_last = progress.done == progress.total
        if time.monotonic() - last_line < SECONDS_BETWEEN_LINES and not is_last:
            return
        last_line = time.monotonic()
        print(f"{progress.done / progress.total:4.0%}  {_words(progress)}", flush=True)

    return Display(nullcontext(), lambda text: print(text, flush=True), show)


def _sweep_bar(console: Any) -> Display:
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(), TextColumn("{task.percentage:3.0f}%  {task.description}"))
    bar = Progress(*columns, console=console)
    task = bar.add_task("", total=None)

    def show(progress: Any) -> None:
        text = _words(progress)
        bar.update(
            task, total=progress.total, completed=progress.done, description=text
        )

    def note(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    return Display(bar, note, show)


def _words(progress: Any) -> str:
    """Returns where a sweep is, its return and the time that is left."""
    return (
        f"{progress.where}  return {_number(progress.episode_return, '.2f')}  "
        f"eta {datetime.timedelta(seconds=round(progress.seconds_left))}"
    )


def _live_panel(console: Any) -> Display:
    from rich.live import Live

    live = Live(console=console, refresh_per_second=8)

    def note(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    return Display(live, note, lambda progress: live.update(_panel(progress)))


def _panel(progress: Progress) -> Any:
    from rich import box
    from rich.console import Group
    from rich.panel import Panel
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    cells = describe(progress)
    iteration, eta = cells.pop("iteration"), cells.pop("eta")
    bar = Table.grid(padding=(0, 1))
    filled = ProgressBar(progress.max_iterations, progress.iteration, width=40)
    bar.add_row(filled, f"[bold]{iteration}[/bold]", f"[dim]eta {eta}[/dim]")

    cells = {"env steps": f"{progress.env_steps:,}"} | cells
    reported = {
        name.removeprefix("log/").removeprefix("Metrics/"): _number(value, ".3g")
        for name, value in progress.scalars.items()
        if name.startswith("log/")
    }
    columns = [_column(part) for part in (*_halves(cells), reported) if part]
    table = Table.grid(padding=(0, 3))
    table.add_row(*columns)
    return Panel(Group(bar, "", table), box=box.ROUNDED, expand=False)


def _halves(cells: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    rows, half = list(cells.items()), (len(cells) + 1) // 2
    return dict(rows[:half]), dict(rows[half:])


def _column(cells: dict[str, str]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(justify="right", style="bold", min_width=9)  # stands still
    for name, value in cells.items():
        table.add_row(Text(name), Text(value))
    return table
