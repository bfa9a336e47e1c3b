"""Trains many members at once: `uv run sweep.py --seeds 16 gamma=0.97,0.99`."""

import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ppo_jax import cli
from ppo_jax.cli import Arguments, Flag, field_flag
from ppo_jax.config import Config, override, parse_literal, short_name
from ppo_jax.pbt import PBTConfig
from ppo_jax.scripts.tasks import (
    checked_task,
    default_config,
    open_members,
    open_trainer,
    parse,
)
from ppo_jax.types import Simulator

FLAGS = [
    field_flag("task", "NAME"),
    Flag("seeds", "N", "members of each setting: seed, seed + 1, ... (1)"),
    field_flag("seed", "N"),
    field_flag("num_envs", "N"),
    field_flag("max_iterations", "N"),
    Flag("samples", "N", "draws of the ranges, log(LOW,HIGH) and uniform(LOW,HIGH)"),
    Flag(
        "stop_bad",
        "F",
        "after each fifth of the iterations stop this fraction of the settings",
    ),
    Flag("population", "P", "split the environments among P members, in one simulator"),
    Flag("pbt", None, "members of a population copy the best and try other values"),
    Flag(
        "perturbation_interval",
        "N",
        "iterations between two exchanges of --pbt "
        f"({PBTConfig().perturbation_interval})",
    ),
    Flag(
        "quantile_fraction",
        "F",
        "part of the members that --pbt replaces, and that is copied "
        f"({PBTConfig().quantile_fraction})",
    ),
    Flag("chunk_size", "N", "most members side by side; else: what the memory holds"),
    field_flag("simulator.device", "NAME"),
    field_flag("simulator.bridge", "NAME"),
    field_flag("simulator.agent", "KEY"),
    Flag("headless", None, "accepted, and always so"),
    Flag("name", "TEXT", "suffix of the sweep's folder; else the task's name"),
    Flag("resume", None, "go on with the newest sweep, or with that of --sweep"),
    Flag("sweep", "FOLDER", "the sweep that --resume and --export mean"),
    Flag("export", "MEMBER", "make a run of a member, a number or best, to play"),
    Flag("coordinator_address", "HOST:PORT", "of process 0, where several meet"),
    Flag("num_processes", "N", "how many processes run this command"),
    Flag("process_id", "I", "which of them this is, from 0"),
    Flag("distributed", None, "several processes that Slurm or another has started"),
    Flag("help", None, "show this, with the defaults of --task"),
]
EXAMPLES = {
    "uv run sweep.py --seeds 16 learning_rate=3e-4,1e-3,3e-3 gamma=0.97,0.99": (
        "every combination, with 16 seeds each"
    ),
    "uv run sweep.py 'learning_rate=log(1e-4,1e-2)' --samples 20 --stop_bad 0.5": (
        "random search that stops the worse half early, several times"
    ),
    "uv run sweep.py 'actor.hidden_dims=[32,32],[64,64]'": "one program for each shape",
    "uv run sweep.py --task Isaac-Cartpole-Direct --population 4 --seeds 4": (
        "four members in one simulator, with a quarter of its environments each"
    ),
    "uv run sweep.py --population 8 --pbt 'desired_kl=log(1e-3,1e-1)' --samples 8": (
        "members that copy the best and explore, all in one program"
    ),
    "uv run sweep.py --resume": "go on with the newest sweep, after whatever happened",
    "uv run sweep.py --export best": "a run of the best, for play.py and train.py",
}
CLUSTER = ("coordinator_address", "num_processes", "process_id")
ONE_PROCESS = "a --population runs in one process, with its simulator"
NOT_AXES = {
    *("task", "seeds", "seed", "samples", "stop_bad", "chunk_size", "name"),
    *("population", "pbt", "perturbation_interval", "quantile_fraction"),
    *("resume", "sweep", "export", "help", "headless"),
    *(*CLUSTER, "distributed"),
}
# What only a run of its own has.
OF_RUNS = ("run_name", "experiment_name", "logger", "save_interval", "keep_checkpoints")
SWEEPS = cli.LOG_ROOT / "sweeps"
MAX_ROWS = 20  # of the table that is printed


def main() -> int:
    """Sweeps as the command line says; returns the exit code."""
    arguments = parse(sys.argv[1:], FLAGS)
    if "help" in arguments.flags:
        return print_help(arguments)
    from ppo_jax import sweep_folder

    sweep_folder.require_parquet()
    cli.use_compilation_cache()
    if "export" in arguments.flags:
        return export(arguments)
    command = partial(resume if "resume" in arguments.flags else start, arguments)
    cluster = cluster_of(arguments)
    if cluster is None:
        return command()
    from ppo_jax import processes

    with processes.joined(cluster):
        cli.run_script(partial(_alike, arguments, command))
    return 0


def cluster_of(arguments: Arguments) -> Any:
    """Returns how this process finds the others, or None if it is alone.

    Raises:
      ValueError: a flag is wrong or missing.
    """
    from ppo_jax.processes import Cluster

    flags = arguments.flags
    given = [name for name in CLUSTER if name in flags]
    if "population" in flags and (given or "distributed" in flags):
        raise ValueError(f"{ONE_PROCESS}: leave --{[*given, 'distributed'][0]} away")
    if "distributed" in flags:
        if given:
            raise ValueError(
                f"--distributed finds the others by itself: leave --{given[0]} away, "
                "or leave --distributed away"
            )
        return Cluster()
    if not given:
        return None
    for name in CLUSTER:
        if name not in flags:
            raise ValueError(
                f"--{name} is missing: give --coordinator_address, --num_processes and "
                "--process_id together, or none of them"
            )
    address = str(flags["coordinator_address"])
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise ValueError(
            f"--coordinator_address {address}: give HOST:PORT of process 0, such as "
            "10.0.0.1:1234"
        )
    number = _number(arguments, "num_processes", 1)
    text = str(flags["process_id"])
    if not (text.isdecimal() and int(text) < number):
        raise ValueError(
            f"--process_id {text}: give each of the {number} processes another number, "
            f"from 0 to {number - 1}"
        )
    return Cluster(address, number, int(text))


def _alike(arguments: Arguments, command: Any) -> int:
    """Runs a command in every process, if all have the same; ends when all are done."""
    from ppo_jax import processes

    flags = {k: v for k, v in arguments.flags.items() if k != "process_id"}
    libraries = {k: v for k, v in cli.versions().items() if k != "python"}
    processes.check_same("arguments", [flags, arguments.overrides])
    processes.check_same("versions", libraries)
    code = command()
    if not code:
        processes.least(0)
    return code


def say(*lines: str) -> None:
    """Prints lines, in the first process only."""
    from ppo_jax import processes

    if processes.is_first():
        print(*lines, sep="\n", flush=True)


def print_help(arguments: Arguments) -> int:
    """Prints how to call this, and the configuration of the task."""
    cli.refuse_others(arguments, "--help", {"help", "task"})
    defaults = default_config(checked_task(arguments.flags))
    cli.print_help("Trains many members at once.", EXAMPLES, FLAGS, defaults)
    return 0


def start(arguments: Arguments) -> int:
    """Plans a sweep, compiles it, and runs it in a new folder."""
    from ppo_jax import processes, sweep_folder, sweep_run

    plan, limit = make_plan(arguments), _number(arguments, "chunk_size", 0)
    name = str(arguments.flags.get("name", cli.experiment_of(plan.base)))
    _check_name(plan.base, name)
    say(*announcement(plan), "compiling ...")
    with open_members(plan.base, plan.population) as make_env:
        plan, compiled = sweep_run.compile_programs(plan, make_env, limit)
        say(*chunk_lines(plan, compiled))
        folder = Path(processes.agree(lambda: str(_new_sweep(plan, name))))
        processes.wait_for(folder / sweep_folder.MANIFEST)
        env = make_env(plan.base)
        if isinstance(env, Simulator):
            env.save_config(folder / "env.yaml")
        return run(plan, folder, make_env, compiled)


def _new_sweep(plan: Any, name: str) -> Path:
    """Makes the folder of a sweep with its manifest."""
    from ppo_jax import sweep, sweep_folder

    folder = cli.new_folder(SWEEPS, name)
    manifest = {
        "version": 1,
        "library": "ppo_jax",
        "task": plan.base.task,
        "created_at": cli.now(),
        "metadata": cli.versions(),
        "sweep": sweep.to_dict(plan),
    }
    sweep_folder.save_manifest(folder, manifest)
    return folder


def resume(arguments: Arguments) -> int:
    """Runs what a sweep's folder does not hold yet."""
    from ppo_jax import processes, sweep, sweep_folder

    allowed = {"resume", "sweep", *CLUSTER, "distributed"}
    cli.refuse_others(arguments, "--resume", allowed)
    folder = Path(processes.agree(lambda: str(find_sweep(arguments))))
    manifest = processes.agree(partial(sweep_folder.load_manifest, folder))
    processes.wait_for(folder / sweep_folder.MANIFEST)
    plan = sweep.from_dict(manifest["sweep"])
    if plan.population and processes.count() > 1:
        raise ValueError(f"{ONE_PROCESS}: resume {folder} in one")
    say(*announcement(plan), f"Resuming {folder}.")
    with open_members(plan.base, plan.population) as make_env:
        return run(plan, folder, make_env, {})


def export(arguments: Arguments) -> int:
    """Makes an ordinary run of a member."""
    from ppo_jax import sweep, sweep_folder, sweep_results

    cli.refuse_others(arguments, "--export", {"export", "sweep"})
    folder = find_sweep(arguments)
    plan = sweep.from_dict(sweep_folder.load_manifest(folder)["sweep"])
    ended = sweep_results.finals(sweep_folder.read_rows(folder))
    final = choose(str(arguments.flags["export"]), ended, folder)
    path = export_member(plan, folder, final)
    quoted = shlex.quote(str(path))
    print(f"Member {final.member}: {_label(plan, final.setting)} seed={final.seed}")
    print(f"  run             {path}")
    print(f"  watch it        uv run play.py --checkpoint {quoted} --video member.mp4")
    more = 2 * final.iterations
    print(
        f"  train on        uv run train.py --resume --checkpoint {quoted} "
        f"--max_iterations {more}"
    )
    return 0


def make_plan(arguments: Arguments) -> Any:
    """Returns the plan that a command line asks for.

    Raises:
      ValueError: something in it is wrong; names it and the fix.
    """
    from ppo_jax import sweep

    if "sweep" in arguments.flags:
        raise ValueError("--sweep is for --resume and --export: leave it away")
    given = {**arguments.flags, **arguments.overrides}
    population = _number(arguments, "population", 0)
    for path in given:
        if path in OF_RUNS and not (population and path == "save_interval"):
            raise ValueError(
                f"a sweep has no use for {short_name(path)}: leave it away, or give "
                "it to train.py with an exported member"
            )
    if population and "chunk_size" in given:
        raise ValueError("--population says what runs at once: leave --chunk_size away")
    defaults = default_config(
        _task(arguments, population),
        str(arguments.flags.get("simulator.agent", "")),
        arguments.tokens,
    )
    if "seed" in given:
        defaults = override(defaults, {"seed": given["seed"]})
    axes = {k: str(v) for k, v in given.items() if k not in NOT_AXES}
    return sweep.make_sweep(
        defaults,
        axes,
        num_seeds=_number(arguments, "seeds", 1),
        samples=_number(arguments, "samples", 0),
        stop_bad=_stop_fraction(arguments),
        population=population,
        pbt=_evolution(arguments),
    )


def find_sweep(arguments: Arguments) -> Path:
    """Returns the folder of --sweep, or of the newest sweep.

    Raises:
      ValueError: there is none.
    """
    if "sweep" in arguments.flags:
        return Path(str(arguments.flags["sweep"]))
    known = sorted(SWEEPS.iterdir()) if SWEEPS.is_dir() else []
    if not known:
        raise ValueError(
            f"{SWEEPS} holds no sweep: start one first, or give --sweep FOLDER"
        )
    return known[-1]


def run(plan: Any, folder: Path, make_env: Any, compiled: Any) -> int:
    """Runs a sweep with its display and ends with the results."""
    from ppo_jax import console, processes, sweep_population, sweep_run

    first = processes.is_first()
    display = console.open_sweep_display() if first else console.NO_DISPLAY
    again = f"uv run sweep.py --resume --sweep {shlex.quote(str(folder))}"
    if processes.count() > 1:
        again += " in every process, with its flags"
    display.note(f"sweep {folder}; should it be stopped, go on with: {again}")
    go = sweep_population.run_populations if plan.population else sweep_run.run_sweep
    try:
        with display.context:
            go(plan, folder, make_env, compiled, display.show, display.note)
    except KeyboardInterrupt:
        cli.complain(f"stopped; finished chunks are kept, go on with: {again}")
        return 130
    if first:
        report(plan, folder)
    return 0


def report(plan: Any, folder: Path) -> None:
    """Writes tables and pictures, prints the summary and where to look."""
    from ppo_jax import sweep, sweep_folder, sweep_results

    table = sweep_folder.read_rows(folder)
    path = sweep_folder.save_table(folder, table)
    ended = sweep_results.finals(table)
    planned = [
        sweep.config_of(plan, s).max_iterations for s in range(len(plan.settings))
    ]
    rows = sweep_results.summarize(ended, plan.settings, planned)
    summary = sweep_folder.save_summary(folder, rows)
    pictures = draw(plan, folder, table, rows)
    print_summary(plan, rows)
    failed = [final for final in ended if final.failed_at is not None]
    for final in failed[:MAX_ROWS]:
        print(
            f"Member {final.member} ({_label(plan, final.setting)} seed={final.seed}) "
            f"became NaN or infinite in iteration {int(final.failed_at or 0) + 1}."
        )
    if len(failed) > MAX_ROWS:
        print(f"So did {len(failed) - MAX_ROWS} more: see finite in the table.")
    print(f"\n  table           {path}")
    print(f"  summary         {summary}")
    for picture in pictures:
        print(f"  picture         {picture}")
    where = shlex.quote(str(folder))
    print(f"  play the best   uv run sweep.py --export best --sweep {where}")


def draw(
    plan: Any, folder: Path, table: Any, rows: Sequence[Mapping[str, Any]]
) -> list[Path]:
    """Draws learning curves and the response to what is swept, or its evolution."""
    from ppo_jax import plots, sweep_results

    title = f"{plan.base.task}, {len(rows)} settings x {plan.num_seeds} seeds"
    best_first = [row["setting"] for row in rows]
    of_setting = sweep_results.curves(table)
    curves = [(_label(plan, s) or "all seeds", *of_setting[s]) for s in best_first]
    goal = plan.base.solved_return
    pictures = [plots.save_sweep_curves(folder, title, curves, goal)]
    if plan.pbt:
        pictures.append(draw_evolution(plan, folder, table))
    elif plan.swept:
        settings = [plan.settings[s] for s in best_first]
        fields = {
            short_name(path): [_plotted(setting[path]) for setting in settings]
            for path in plan.swept
        }
        returns = [row["final_return"] for row in rows]
        pictures.append(plots.save_response(folder, title, fields, returns))
    return pictures


def draw_evolution(plan: Any, folder: Path, table: Any) -> Path:
    """Draws the returns and the values of all members, and who went on from another."""
    from ppo_jax import plots

    explored = [name for name, _, _ in plan.pbt.bounds]
    columns = {"return": "episode_return"} | {k: f"hparams/{k}" for k in explored}
    members = len(plan.settings) * plan.num_seeds
    rows = {
        name: table[column].to_numpy().reshape(members, -1)
        for name, column in {**columns, "parent": "parent", "x": "env_steps"}.items()
    }
    parent, env_steps = rows.pop("parent"), rows.pop("x")[0]
    title = f"{plan.base.task}, {members} members that evolve"
    return plots.save_evolution(folder, title, env_steps, rows, parent)


def announcement(plan: Any) -> list[str]:
    """Says in a few lines what is planned."""
    from ppo_jax import sweep

    base, settings = plan.base, len(plan.settings)
    programs = sweep.programs_of(plan)
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
        ends = ", ".join(map(str, sweep.stage_ends(plan, base)[:-1]))
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
    from ppo_jax import population, processes, sweep

    total = processes.count()
    of_processes = f" of {total} processes" if total > 1 else ""
    programs, lines = sweep.programs_of(plan), []
    chunks = sweep.chunks_of(plan, programs, 0, range(len(plan.settings)))
    for (number, rows), made in compiled.items():
        count = sum(chunk.program == number for chunk in chunks)
        devices = made.sharding.mesh.size
        free = population.free_bytes(made.sharding.mesh)
        lines.append(
            f"  program {number + 1}: {count} chunk{'s' * (count > 1)} of {rows} "
            f"members on {devices} device{'s' * (devices > 1)}{of_processes}, "
            f"{population.gigabytes(made.num_bytes)} each of "
            f"{population.gigabytes(free)} that may be used"
        )
    return lines


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


def choose(member: str, ended: Sequence[Any], folder: Path) -> Any:
    """Returns how the member that is meant ended.

    Raises:
      ValueError: there is no such member, or it failed.
    """
    if member == "best":
        going = [f for f in ended if f.failed_at is None]
        longest = max((f.iterations for f in going), default=0)
        known = [f for f in going if f.iterations == longest]
        known = [f for f in known if not math.isnan(f.final_return)]
        if not known:
            raise ValueError(f"{folder} has no member that finished an episode yet")
        return max(known, key=lambda final: final.final_return)
    by_number = {str(final.member): final for final in ended}
    if member not in by_number:
        raise ValueError(
            f"--export {member}: give best or the number of a member, 0 to "
            f"{max(final.member for final in ended)}, that {folder} has finished"
        )
    final = by_number[member]
    if final.failed_at is not None:
        raise ValueError(
            f"--export {member}: it became NaN or infinite in iteration "
            f"{final.failed_at + 1}, and there is nothing to go on from"
        )
    return final


def export_member(plan: Any, folder: Path, final: Any) -> Path:
    """Writes a member as the folder of an ordinary run; returns it."""
    import jax

    from ppo_jax import checkpoint, metrics, runner, sweep, sweep_folder

    config = sweep.config_of(plan, final.setting, final.seed)
    config = override(config, {"run_name": f"member_{final.member}"})
    rows = member_rows(plan, sweep_folder.read_rows(folder), final.member)
    if plan.pbt:  # with the values that the member has come to
        evolved = [f"hparams/{name}" for name, _, _ in plan.pbt.bounds]
        config = override(
            config, {f"algorithm.{k.partition('/')[2]}": rows[-1][k] for k in evolved}
        )
    with open_trainer(config) as trainer:
        template = runner.saved_part(trainer, runner.abstract_run(trainer))
    runs = sweep_folder.load_runs(folder, None, [final.member], template)
    seconds = sweep_folder.seconds_of(folder, final.member)
    path = cli.new_run_folder(config)
    writer = metrics.open_writer(path, config.logger)
    for iteration, scalars in enumerate(rows):
        share = (iteration + 1) / len(rows)  # a chunk's clock is that of all in it
        writer.write(iteration, scalars, seconds * share)
    writer.close()
    samples = config.num_envs * config.num_steps_per_env
    episode_return = rows[-1]["episode_return"]
    meta = {
        "iteration": final.iterations,
        "env_steps": final.iterations * samples,
        "seconds": seconds,
        "episode_return": None if math.isnan(episode_return) else episode_return,
    }
    run = jax.tree.map(lambda x: jax.numpy.asarray(x[0]), runs)
    checkpoint.save(path, run, meta, config.keep_checkpoints)
    return path


def member_rows(plan: Any, table: Any, member: int) -> list[dict[str, float]]:
    """Returns the metrics of a member, iteration by iteration."""
    import pyarrow.compute as pc

    about = {"member", "setting", "seed", "iteration", "env_steps", "finite"}
    names = [name for name in table.column_names if name not in about | {*plan.swept}]
    rows = table.filter(pc.field("member") == member).select(names).to_pylist()
    return [
        {name: float(x) for name, x in row.items() if x is not None} for row in rows
    ]


def _task(arguments: Arguments, population: int) -> str:
    """Returns the task that is meant.

    Raises:
      ValueError: there is no such task, or its simulator is not shared.
    """
    from envs import is_isaac_task

    task = checked_task(arguments.flags)
    if is_isaac_task(task) and not population:
        raise ValueError(
            f"--task {task} runs in a simulator, one in a process: give --population P "
            "to split its environments among P members"
        )
    return task


def _evolution(arguments: Arguments) -> PBTConfig | None:
    """Returns how --pbt lets members evolve, or None."""
    names = ("perturbation_interval", "quantile_fraction")
    given = {
        k: parse_literal(str(arguments.flags[k])) for k in names if k in arguments.flags
    }
    if "pbt" in arguments.flags:
        return PBTConfig(**given)
    for name in given:
        raise ValueError(f"--{name} is for --pbt: give that too, or leave it away")
    return None


def _number(arguments: Arguments, name: str, default: int) -> int:
    """Returns the whole number of a flag.

    Raises:
      ValueError: it is none, or not above 0.
    """
    text = str(arguments.flags.get(name, ""))
    if not text:
        return default
    value = parse_literal(text)
    if type(value) is not int or value < 1:
        raise ValueError(f"--{name} {text}: give a whole number above 0")
    return value


def _check_name(base: Config, name: str) -> None:
    """Raises ValueError unless a folder can be called so."""
    try:
        override(base, {"run_name": name})
    except ValueError as error:
        raise ValueError(str(error).replace("run_name", "--name", 1)) from None


def _stop_fraction(arguments: Arguments) -> float:
    text = str(arguments.flags.get("stop_bad", "0.0"))
    value = parse_literal(text)
    inside = isinstance(value, int | float) and 0 < value < 1
    if "stop_bad" in arguments.flags and not inside:
        raise ValueError(f"--stop_bad {text}: give a number between 0 and 1")
    return float(value)


def _label(plan: Any, setting: int) -> str:
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
