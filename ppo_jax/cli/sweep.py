"""Trains many members at once: `uv run sweep.py --seeds 16 gamma=0.97,0.99`."""

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

from ppo_jax.cli import command_line, entry, help_page, sweep_export
from ppo_jax.cli.command_line import Arguments, Flag, field_flag
from ppo_jax.cli.tasks import checked_task, default_config, open_members, parse
from ppo_jax.loops.pbt import PBTConfig
from ppo_jax.runs import folders
from ppo_jax.runs.config import Config
from ppo_jax.runs.config_fields import override, parse_literal, short_name
from ppo_jax.sweeps import report
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
SWEEPS = folders.LOG_ROOT / "sweeps"


def main() -> int:
    """Sweeps as the command line says; returns the exit code."""
    arguments = parse(sys.argv[1:], FLAGS)
    if "help" in arguments.flags:
        return print_help(arguments)
    from ppo_jax.sweeps import files

    files.require_parquet()
    entry.use_compilation_cache()
    if "export" in arguments.flags:
        return export(arguments)
    command = partial(resume if "resume" in arguments.flags else start, arguments)
    cluster = cluster_of(arguments)
    if cluster is None:
        return command()
    from ppo_jax.runs import processes

    with processes.joined(cluster):
        entry.run_script(partial(_alike, arguments, command))
    return 0


def cluster_of(arguments: Arguments) -> Any:
    """Returns how this process finds the others, or None if it is alone.

    Raises:
      ValueError: a flag is wrong or missing.
    """
    from ppo_jax.runs.processes import Cluster

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
    from ppo_jax.runs import processes

    flags = {k: v for k, v in arguments.flags.items() if k != "process_id"}
    libraries = {k: v for k, v in folders.versions().items() if k != "python"}
    processes.check_same("arguments", [flags, arguments.overrides])
    processes.check_same("versions", libraries)
    code = command()
    if not code:
        processes.least(0)
    return code


def say(*lines: str) -> None:
    """Prints lines, in the first process only."""
    from ppo_jax.runs import processes

    if processes.is_first():
        print(*lines, sep="\n", flush=True)


def print_help(arguments: Arguments) -> int:
    """Prints how to call this, and the configuration of the task."""
    command_line.refuse_others(arguments, "--help", {"help", "task"})
    defaults = default_config(checked_task(arguments.flags))
    help_page.print_help("Trains many members at once.", EXAMPLES, FLAGS, defaults)
    return 0


def start(arguments: Arguments) -> int:
    """Plans a sweep, compiles it, and runs it in a new folder."""
    from ppo_jax.runs import processes
    from ppo_jax.sweeps import chunk_loop, files

    plan, limit = make_plan(arguments), _number(arguments, "chunk_size", 0)
    name = str(arguments.flags.get("name", folders.experiment_of(plan.base)))
    _check_name(plan.base, name)
    say(*report.announcement(plan), "compiling ...")
    with open_members(plan.base, plan.population) as make_env:
        plan, compiled = chunk_loop.compile_programs(plan, make_env, limit)
        say(*report.chunk_lines(plan, compiled))
        folder = Path(processes.agree(lambda: str(_new_sweep(plan, name))))
        processes.wait_for(folder / files.MANIFEST)
        env = make_env(plan.base)
        if isinstance(env, Simulator):
            env.save_config(folder / "env.yaml")
        return run(plan, folder, make_env, compiled)


def _new_sweep(plan: Any, name: str) -> Path:
    """Makes the folder of a sweep with its manifest."""
    from ppo_jax.sweeps import files, planning

    folder = folders.new_folder(SWEEPS, name)
    manifest = {
        "version": 1,
        "library": "ppo_jax",
        "task": plan.base.task,
        "created_at": folders.now(),
        "metadata": folders.versions(),
        "sweep": planning.to_dict(plan),
    }
    files.save_manifest(folder, manifest)
    return folder


def resume(arguments: Arguments) -> int:
    """Runs what a sweep's folder does not hold yet."""
    from ppo_jax.runs import processes
    from ppo_jax.sweeps import files, planning

    allowed = {"resume", "sweep", *CLUSTER, "distributed"}
    command_line.refuse_others(arguments, "--resume", allowed)
    folder = Path(processes.agree(lambda: str(find_sweep(arguments))))
    manifest = processes.agree(partial(files.load_manifest, folder))
    processes.wait_for(folder / files.MANIFEST)
    plan = planning.from_dict(manifest["sweep"])
    if plan.population and processes.count() > 1:
        raise ValueError(f"{ONE_PROCESS}: resume {folder} in one")
    say(*report.announcement(plan), f"Resuming {folder}.")
    with open_members(plan.base, plan.population) as make_env:
        return run(plan, folder, make_env, {})


def export(arguments: Arguments) -> int:
    """Makes an ordinary run of a member."""
    from ppo_jax.sweeps import files, planning, ranking

    command_line.refuse_others(arguments, "--export", {"export", "sweep"})
    folder = find_sweep(arguments)
    plan = planning.from_dict(files.load_manifest(folder)["sweep"])
    ended = ranking.finals(files.read_rows(folder))
    final = sweep_export.choose(str(arguments.flags["export"]), ended, folder)
    path = sweep_export.export_member(plan, folder, final)
    quoted = shlex.quote(str(path))
    setting = report.label(plan, final.setting)
    print(f"Member {final.member}: {setting} seed={final.seed}")
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
    from ppo_jax.sweeps import settings

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
    return settings.make_sweep(
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
    from ppo_jax.cli import console
    from ppo_jax.runs import processes
    from ppo_jax.sweeps import chunk_loop, population_loop

    first = processes.is_first()
    display = console.open_sweep_display() if first else console.NO_DISPLAY
    again = f"uv run sweep.py --resume --sweep {shlex.quote(str(folder))}"
    if processes.count() > 1:
        again += " in every process, with its flags"
    display.note(f"sweep {folder}; should it be stopped, go on with: {again}")
    go = population_loop.run_populations if plan.population else chunk_loop.run_sweep
    try:
        with display.context:
            go(plan, folder, make_env, compiled, display.show, display.note)
    except KeyboardInterrupt:
        entry.complain(f"stopped; finished chunks are kept, go on with: {again}")
        return 130
    if first:
        report.report(plan, folder)
    return 0


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
