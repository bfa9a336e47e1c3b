"""What a sweep says before it runs, and the tables and pictures when it has."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppo_jax.runs.config_fields import short_name

MAX_ROWS = 20  # of the table that is printed


def announcement(plan: Any) -> list[str]:
    """Says in a few lines what is planned."""
    from ppo_jax.sweeps import planning

    base, settings = plan.base, len(plan.settings)
    programs = planning.programs_of(plan)
    seeds = f"{base.seed}"
    if plan.num_seeds > 1:
        seeds = f"{base.seed} to {base.seed + plan.num_seeds - 1}"
    lines = [
        f"{base.task}: {settings * plan.num_seeds} members = {settings} settings x "
        f"{plan.num_seeds} seeds ({seeds})",
        f"  each {base.num_envs} environments x {base.num_steps_per_env} steps, "
        f"{base.max_iterations} iterations, where not swept",
        f"  {len(programs)} program{'s' * (len(programs) > 1)} to compile; swept: "
        f"{', '.join(map(short_name, plan.swept)) or 'nothing but the seed'}",
    ]
    if plan.population:
        lines.append(
            f"  populations of {plan.population}, {plan.population * base.num_envs} "
            f"environments together, saved every {base.save_interval} iterations"
        )
    if plan.pbt:
        lines.append(f"  {evolution_line(plan)}")
    if plan.stop_bad:
        ends = ", ".join(map(str, planning.stage_ends(plan, base)[:-1]))
        lines.append(f"  the worst {plan.stop_bad:.0%} are stopped after {ends}")
    return lines


def evolution_line(plan: Any) -> str:
    """Says how a population evolves."""
    explored = ", ".join(
        f"{name} in [{low:g}, {high:g}]" for name, low, high in plan.pbt.bounds
    )
    return (
        f"every {plan.pbt.perturbation_interval} iterations the worst "
        f"{plan.pbt.quantile_fraction:.0%} continue the best"
        + (f" and explore {explored}" if explored else "")
    )


def chunk_lines(plan: Any, compiled: Any) -> list[str]:
    """Says how the members are cut into chunks, and what memory a chunk takes."""
    from ppo_jax.runs import processes
    from ppo_jax.sweeps import compiling, planning

    total = processes.count()
    of_processes = f" of {total} processes" if total > 1 else ""
    programs, lines = planning.programs_of(plan), []
    chunks = planning.chunks_of(plan, programs, 0, range(len(plan.settings)))
    for (number, rows), made in compiled.items():
        count = sum(chunk.program == number for chunk in chunks)
        devices = made.sharding.mesh.size
        free = compiling.free_bytes(made.sharding.mesh)
        lines.append(
            f"  program {number + 1}: {count} chunk{'s' * (count > 1)} of {rows} "
            f"members on {devices} device{'s' * (devices > 1)}{of_processes}, "
            f"{compiling.gigabytes(made.num_bytes)} each of "
            f"{compiling.gigabytes(free)} that may be used"
        )
    return lines


def report(plan: Any, folder: Path) -> None:
    """Writes tables and pictures, prints the summary and where to look."""
    from ppo_jax.sweeps import files, planning, ranking
    from ppo_jax.sweeps import folder as results

    table = files.read_rows(folder)
    path = results.save_table(folder, table)
    ended = ranking.finals(table)
    planned = [
        planning.config_of(plan, s).max_iterations for s in range(len(plan.settings))
    ]
    rows = ranking.summarize(ended, plan.settings, planned)
    summary = results.save_summary(folder, rows)
    try:
        pictures = draw(plan, folder, table, rows)
    except Exception as error:  # a picture decorates: the results are there
        pictures = []
        print(f"The pictures could not be drawn: {error}")
    results.seal(folder, [path, summary, *pictures])
    print_summary(plan, rows)
    failed = [final for final in ended if final.failed_at is not None]
    for final in failed[:MAX_ROWS]:
        print(
            f"Member {final.member} ({label(plan, final.setting)} seed={final.seed}) "
            f"became NaN or infinite in iteration {int(final.failed_at or 0) + 1}."
        )
    if len(failed) > MAX_ROWS:
        print(f"So did {len(failed) - MAX_ROWS} more: see finite in the table.")
    print(f"\n  table           {path}")
    print(f"  summary         {summary}")
    for picture in pictures:
        print(f"  picture         {picture}")


def print_summary(plan: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints the best settings as a table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    names = [short_name(path) for path in plan.swept]
    for name in ("rank", "setting", *names, "done", "return", "IQM", "low", "high"):
        table.add_column(name, justify="right", overflow="fold")
    for row in rows[:MAX_ROWS]:
        failed = f" ({row['failed']} failed)" if row["failed"] else ""
        table.add_row(
            str(row["rank"]),
            str(row["setting"]),
            *(_short(row[path]) for path in plan.swept),
            str(row["iterations"]),
            _short(row["final_return"]) + failed,
            *(_short(row[name]) for name in ("iqm", "iqm_low", "iqm_high")),
        )
    Console(highlight=False).print(table)
    if len(rows) > MAX_ROWS:
        print(f"  and {len(rows) - MAX_ROWS} more in the summary")
    print(
        "  low and high: 95 % interval of the interquartile mean (IQM) over the seeds"
    )


def draw(
    plan: Any, folder: Path, table: Any, rows: Sequence[Mapping[str, Any]]
) -> list[Path]:
    """Draws learning curves and the response to what is swept, or its evolution."""
    from ppo_jax.sweeps import pictures, ranking

    title = f"{plan.base.task}, {len(rows)} settings x {plan.num_seeds} seeds"
    best_first = [row["setting"] for row in rows]
    of_setting = ranking.curves(table)
    curves = [(label(plan, s) or "all seeds", *of_setting[s]) for s in best_first]
    goal = plan.base.solved_return
    drawn = [pictures.save_sweep_curves(folder, title, curves, goal)]
    if plan.pbt:
        drawn.append(draw_evolution(plan, folder, table))
    elif plan.swept:
        settings = [plan.settings[s] for s in best_first]
        fields = {
            short_name(path): [_plotted(setting[path]) for setting in settings]
            for path in plan.swept
        }
        returns = [row["final_return"] for row in rows]
        drawn.append(pictures.save_response(folder, title, fields, returns))
    return drawn


def draw_evolution(plan: Any, folder: Path, table: Any) -> Path:
    """Draws the returns and the values of all members, and who went on from another."""
    from ppo_jax.sweeps import pictures

    explored = [name for name, _, _ in plan.pbt.bounds]
    columns = {"return": "episode_return"} | {k: f"hparams/{k}" for k in explored}
    members = len(plan.settings) * plan.num_seeds
    rows = {
        name: table[column].to_numpy().reshape(members, -1)
        for name, column in {**columns, "parent": "parent", "x": "env_steps"}.items()
    }
    parent, env_steps = rows.pop("parent"), rows.pop("x")[0]
    title = f"{plan.base.task}, {members} members that evolve"
    return pictures.save_evolution(folder, title, env_steps, rows, parent)


def label(plan: Any, setting: int) -> str:
    """Returns what is swept in a setting, as it is typed."""
    values = plan.settings[setting]
    return " ".join(f"{short_name(k)}={_short(v)}" for k, v in values.items())


def _short(value: Any) -> str:
    """Returns a value as it is shown."""
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def _plotted(value: Any) -> Any:
    """Returns a number as it is, everything else as text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else _short(value)
