"""Trains many members at once: `uv run sweep.py --seeds 16 gamma=0.97,0.99`."""

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

from ppo_jax.cli import command_line, entry, help_page
from ppo_jax.cli.command_line import Arguments, Flag, field_flag
from ppo_jax.cli.tasks import (
    checked_task,
    default_config,
    open_members,
    open_trainer,
    parse,
)
from ppo_jax.loops.pbt_config import PBTConfig
from ppo_jax.runs import folders
from ppo_jax.sweeps import report

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
    "sweep.py --seeds 16 learning_rate=3e-4,1e-3,3e-3 gamma=0.97,0.99": (
        "every combination, with 16 seeds each"
    ),
    "sweep.py 'learning_rate=log(1e-4,1e-2)' --samples 20 --stop_bad 0.5": (
        "random search that stops the worse half early, several times"
    ),
    "sweep.py 'actor.hidden_dims=[32,32],[64,64]'": "one program for each shape",
    "sweep.py --task Isaac-Cartpole-Direct --population 4 --seeds 4": (
        "four members in one simulator, with a quarter of its environments each"
    ),
    "sweep.py --population 8 --pbt 'desired_kl=log(1e-3,1e-1)' --samples 8": (
        "members that copy the best and explore, all in one program"
    ),
    "sweep.py --resume": "go on with the newest sweep, after whatever happened",
    "sweep.py --export best": "a run of the best, for play.py and train.py",
}
SWEEPS = folders.LOG_ROOT / "sweeps"


def main() -> int:
    """Sweeps as the command line says; returns the exit code."""
    arguments = parse(sys.argv[1:], FLAGS)
    if "help" in arguments.flags:
        return print_help(arguments)
    from ppo_jax.sweeps import folder as sweep_folder

    sweep_folder.require_parquet()
    if "export" in arguments.flags:
        return export(arguments)
    command = partial(resume if "resume" in arguments.flags else start, arguments)
    from ppo_jax.cli import cluster

    return cluster.run(arguments, command)


def print_help(arguments: Arguments) -> int:
    """Prints how to call this, and the configuration of the task."""
    command_line.refuse_others(arguments, "--help", {"help", "task"})
    defaults = default_config(checked_task(arguments.flags))
    help_page.print_help("Trains many members at once.", EXAMPLES, FLAGS, defaults)
    return 0


def start(arguments: Arguments) -> int:
    """Plans a sweep, compiles it, and runs it in a new folder."""
    from ppo_jax.cli.cluster import say
    from ppo_jax.cli.sweep_plan import check_name, make_plan
    from ppo_jax.runs import processes
    from ppo_jax.sweeps import folder as sweep_folder
    from ppo_jax.sweeps import programs
    from ppo_jax.types import Simulator

    plan = make_plan(arguments)
    limit = command_line.whole_number(arguments, "chunk_size", 0)
    name = str(arguments.flags.get("name", folders.experiment_of(plan.base)))
    check_name(plan.base, name)
    say(*report.announcement(plan), "compiling ...")
    with open_members(plan.base, plan.population) as make_env:
        plan, compiled = programs.compile_programs(plan, make_env, limit)
        say(*report.chunk_lines(plan, compiled))
        make_folder = partial(sweep_folder.new_sweep, SWEEPS, plan, name)
        folder = Path(processes.agree(lambda: str(make_folder())))
        processes.wait_for(folder / sweep_folder.MANIFEST)
        with sweep_folder.held(folder):
            env = make_env(plan.base)
            if isinstance(env, Simulator):
                env.save_config(folder / sweep_folder.ENV)
                sweep_folder.seal(folder)
            return run(plan, folder, make_env, compiled)


def resume(arguments: Arguments) -> int:
    """Runs what a sweep's folder does not hold yet."""
    from ppo_jax.cli import cluster
    from ppo_jax.runs import processes
    from ppo_jax.sweeps import folder as sweep_folder

    allowed = {"resume", "sweep", *cluster.FLAGS, "distributed"}
    command_line.refuse_others(arguments, "--resume", allowed)
    folder = Path(processes.agree(lambda: str(find_sweep(arguments))))
    manifest = processes.agree(partial(sweep_folder.load_manifest, folder))
    processes.wait_for(folder / sweep_folder.MANIFEST)
    plan = sweep_folder.load_plan(folder, manifest)
    if plan.population and processes.count() > 1:
        raise ValueError(f"{cluster.ONE_PROCESS}: resume {folder} in one")
    with sweep_folder.held(folder):
        damaged = processes.agree(partial(sweep_folder.mend, folder, plan))
        cluster.say(*report.announcement(plan), *damaged, f"Resuming {folder}.")
        with open_members(plan.base, plan.population) as make_env:
            return run(plan, folder, make_env, {})


def export(arguments: Arguments) -> int:
    """Makes an ordinary run of a member."""
    from ppo_jax.sweeps import export as exporting
    from ppo_jax.sweeps import files, ranking
    from ppo_jax.sweeps import folder as sweep_folder

    command_line.refuse_others(arguments, "--export", {"export", "sweep"})
    folder = find_sweep(arguments)
    plan = sweep_folder.load_plan(folder, sweep_folder.load_manifest(folder))
    damaged = sweep_folder.require_whole(folder)
    ended = ranking.finals(files.read_rows(folder))
    final = exporting.choose(str(arguments.flags["export"]), ended, folder)
    path = exporting.export_member(plan, folder, final, open_trainer)
    quoted = shlex.quote(str(path))
    setting = report.label(plan, final.setting)
    print(*damaged, f"Member {final.member}: {setting} seed={final.seed}", sep="\n")
    print(f"  run             {path}")
    watch = f"play.py --checkpoint {quoted} --video member.mp4"
    on = f"train.py --resume --checkpoint {quoted} --max_iterations"
    print(f"  watch it        {entry.typed(watch)}")
    print(f"  train on        {entry.typed(on)} {2 * final.iterations}")
    return 0


def find_sweep(arguments: Arguments) -> Path:
    """Returns the folder of --sweep, or of the newest sweep."""
    from ppo_jax.sweeps import folder as sweep_folder

    selector = arguments.flags.get("sweep")
    return sweep_folder.find_sweep(SWEEPS, None if selector is None else str(selector))


def run(plan: Any, folder: Path, make_env: Any, compiled: Any) -> int:
    """Runs a sweep with its display and ends with the results."""
    from ppo_jax.cli import console
    from ppo_jax.runs import processes
    from ppo_jax.sweeps import chunk_loop, population_loop, stage_loop

    first = processes.is_first()
    display = console.open_sweep_display() if first else console.NO_DISPLAY
    place = shlex.quote(str(folder))
    again = entry.typed(f"sweep.py --resume --sweep {place}")
    if processes.count() > 1:
        again += " in every process, with its flags"
    display.note(f"sweep {folder}; should it be stopped, go on with: {again}")
    go = population_loop.run_populations if plan.population else stage_loop.run_stages
    work = chunk_loop.open_work(
        plan, folder, make_env, compiled, display.show, display.note
    )
    try:
        with display.context:
            go(work)
    except KeyboardInterrupt:
        entry.complain(f"stopped; finished chunks are kept, go on with: {again}")
        return 130
    if first:
        report.report(plan, folder)
        best = entry.typed(f"sweep.py --export best --sweep {place}")
        print(f"  play the best   {best}")
    return 0
