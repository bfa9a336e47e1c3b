"""What a run shows while it trains: a live panel, or plain lines where there is no terminal."""

import datetime
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from ppo_jax.runner import Progress

SECONDS_BETWEEN_LINES = 2.0


class Display(NamedTuple):
    """How progress is shown; `context` is open while training."""

    context: AbstractContextManager[Any]
    note: Callable[[str], None]
    show: Callable[[Progress], None]


def open_display() -> Display:
    """Returns a live panel on a terminal, and plain lines elsewhere."""
    from rich.console import Console

    console = Console()
    return _live_panel(console) if console.is_terminal else _plain_lines()


def describe(progress: Progress) -> list[tuple[str, str]]:
    """Returns what is shown of an iteration, as (name, value)."""
    s = progress.scalars
    remaining = progress.max_iterations - progress.iteration
    eta = datetime.timedelta(seconds=round(remaining * s["iteration_time"]))
    return [
        ("iteration", f"{progress.iteration}/{progress.max_iterations}"),
        ("steps/s", f"{s['steps_per_second']:,.0f}"),
        ("return", _number(s["episode_return"], ".2f")),
        ("length", _number(s["episode_length"], ".1f")),
        ("value", _number(s.get("value_loss"), ".3g")),
        ("surrogate", _number(s.get("surrogate_loss"), ".3g")),
        ("entropy", _number(s.get("entropy"), ".3g")),
        ("kl", _number(s.get("kl"), ".3g")),
        ("lr", _number(s.get("learning_rate"), ".2e")),
        ("eta", str(eta)),
    ]


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
        print("  ".join(f"{name} {x}" for name, x in describe(progress)), flush=True)

    return Display(nullcontext(), lambda text: print(text, flush=True), show)


def _live_panel(console: Any) -> Display:
    from rich.live import Live
    from rich.panel import Panel
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    live = Live(console=console, refresh_per_second=8, transient=False)

    def show(progress: Progress) -> None:
        table = Table.grid(padding=(0, 2))
        names_and_values = describe(progress)
        rows = [
            ("env steps", f"{progress.env_steps:,}"),
            *names_and_values[1:-1],
            *(
                (name.removeprefix("log/"), _number(value, ".3g"))
                for name, value in progress.scalars.items()
                if name.startswith("log/")
            ),
        ]
        half = (len(rows) + 1) // 2
        for left, right in zip(rows[:half], [*rows[half:], ("", "")], strict=False):
            table.add_row(*_cells(left), *_cells(right))
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(progress.max_iterations, progress.iteration, width=40),
            names_and_values[0][1],
            f"[dim]eta {names_and_values[-1][1]}[/dim]",
        )
        content = Table.grid()
        content.add_row(bar)
        content.add_row(table)
        live.update(Panel(content, title="training", expand=False))

    return Display(live, lambda text: live.console.print(text), show)


def _cells(name_and_value: tuple[str, str]) -> tuple[str, str]:
    name, value = name_and_value
    return f"[dim]{name}[/dim]", f"[bold]{value}[/bold]"
