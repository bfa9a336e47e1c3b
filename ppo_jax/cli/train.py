"""Trains a policy: `uv run train.py --task Cartpole`."""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from ppo_jax.cli import (
    command_line,
    dumping,
    entry,
    filming_beside,
    help_page,
    teaching,
    weights,
    workers,
)
from ppo_jax.cli.announcing import announce
from ppo_jax.cli.command_line import Arguments, Flag, field_flag
from ppo_jax.cli.listing import list_tasks
from ppo_jax.cli.simulators import backend_of
from ppo_jax.cli.tasks import (
    DEFAULT_TASK,
    checked_task,
    default_config,
    open_trainer,
    parse,
)
from ppo_jax.cli.training import train
from ppo_jax.runs import folders
from ppo_jax.runs.config import Config
from ppo_jax.runs.config_fields import flatten, override, short_name
from ppo_jax.runs.loggers import names as loggers
from ppo_jax.runs.students import is_distillation

FLAGS = [
    field_flag("task", "NAME"),
    Flag("list", None, "list the tasks and stop"),
    field_flag("num_envs", "N"),
    field_flag("max_iterations", "N"),
    field_flag("seed", "N"),
    field_flag("devices", "N"),
    field_flag("run_name", "TEXT"),
    field_flag("experiment_name", "TEXT"),
    Flag("resume", None, "go on with the newest run, or with that of --checkpoint"),
    Flag(
        "checkpoint",
        "PATH",
        "with --resume: the run; else: weights, or an rsl_rl .pt",
    ),
    field_flag("logger", "NAME"),
    Flag("video", None, "film the trained policy at the end"),
    Flag("video_interval", "N", "film it beside training, every N iterations"),
    Flag("dump_nan", None, "keep what leads to a NaN, for play.py --dump_nan FILE"),
    Flag("profile", "N", "trace N iterations, for Perfetto or TensorBoard"),
    field_flag("simulator.device", "NAME"),
    field_flag("simulator.bridge", "NAME"),
    field_flag("simulator.agent", "KEY"),
    Flag("num_processes", "N", "processes that learn one policy, started here"),
    Flag(
        "distributed", None, "this is one of several, which torchrun or Slurm started"
    ),
    Flag("coordinator_address", "HOST:PORT", "of process 0, where several meet"),
    Flag("process_id", "I", "which of --num_processes this is, from 0"),
    Flag("headless", None, "accepted, and always so"),
    Flag("help", None, "show this, with the defaults of --task"),
]
NOT_CONFIG = {
    *("list", "resume", "checkpoint", "video", "video_interval", "profile"),
    *("dump_nan", "headless", "help", "distributed"),
    *workers.FLAGS,
}
EXAMPLES = {
    "train.py": "train the default task, Cartpole, on this machine",
    "train.py --task Franka-Lift --num_envs 512 --video": "another task, filmed",
    "train.py gamma=0.98 'actor.hidden_dims=[64,64]'": "other values",
    "train.py --resume --max_iterations 300": "go on with the newest run",
    "train.py --task Franka-Lift --help": "another task's configuration",
    "train.py --num_processes 2 --num_envs 512": "one policy, two processes",
    "train.py --task Isaac-Cartpole-Direct --device cpu": "a task of Isaac Lab",
    "train.py --task mjlab:Mjlab-Cartpole-Balance --device cpu": "one of mjlab",
    "train.py algorithm.class_name=Distillation --checkpoint latest": (
        "a student of the newest run's policy"
    ),
}
# Without these as they were, the rest of a run would not be its continuation.
FIXED_BY_RUN = (
    "num_envs",
    "num_steps_per_env",
    "seed",
    "run_name",
    "init_at_random_ep_len",
    "obs_groups",
    "actor.",
    "critic.",
    "student.",
    "teacher.",
    "algorithm.class_name",
    "algorithm.teacher_checkpoint",
    "algorithm.optimizer",
    "simulator.agent",
    "simulator.overrides",
)


def run(argv: list[str]) -> NoReturn:
    """Trains as Isaac Lab's own command line asks: `isaaclab train`."""
    sys.argv = [f"{entry.ISAAC_LAB} train", *argv]
    entry.run_script(main)


def main() -> int:
    """Trains as the command line says; returns the exit code."""
    argv = sys.argv[1:]
    goes_on = "--resume" in argv  # then the agent's configuration is ours already
    arguments = parse(argv, FLAGS, agent=not goes_on)
    if "help" in arguments.flags:
        return print_help(arguments)
    if "list" in arguments.flags:
        return list_tasks(arguments)
    for name in ("profile", "video_interval"):  # what is wrong fails at once
        command_line.whole_number(arguments, name, 0)
    command = partial(resume if "resume" in arguments.flags else start, arguments)
    if not workers.flags_in(arguments):
        return command()
    if count := workers.asked_for(arguments):
        if "resume" not in arguments.flags and not _is_simulated(arguments):
            configured(arguments)  # a mistake is said once
        return workers.run(count)
    from ppo_jax.cli import cluster

    return cluster.run(arguments, command)


def _is_simulated(arguments: Arguments) -> bool:
    """Whether even its configuration needs a simulator, which is slow to import."""
    return backend_of(str(arguments.flags.get("task", DEFAULT_TASK))) is not None


def print_help(arguments: Arguments) -> int:
    """Prints how to call this, and the configuration of the task."""
    command_line.refuse_others(arguments, "--help", {"help", "task"})
    defaults = default_config(checked_task(arguments.flags))
    help_page.print_help("Train a policy with PPO.", EXAMPLES, FLAGS, defaults)
    return 0


def start(arguments: Arguments) -> int:
    """Trains from scratch, or from the weights of --checkpoint, in a new folder."""
    started = time.perf_counter()
    config, arguments = configured(arguments)
    announce(config)
    from ppo_jax.runs import processes, trainers
    from ppo_jax.types import Simulator

    with open_trainer(config, **how_to_open(arguments)) as trainer:
        # What does not fit must fail before there is a folder.
        trainers.lower(trainer, starts=True)
        run = None
        if "checkpoint" in arguments.flags:
            run = weights.start_from_weights(trainer, arguments)
        elif is_distillation(config):
            run = weights.start_with_teacher(trainer, teaching.load_teacher(trainer))
        new_folder = lambda: str(folders.new_run_folder(config))
        folder = Path(processes.agree(new_folder))
        if isinstance(trainer.env, Simulator) and processes.is_first():
            trainer.env.save_config(folder / "params" / "env.yaml")
        return train(trainer, folder, run, 0.0, started, arguments)


def configured(arguments: Arguments) -> tuple[Config, Arguments]:
    """Returns the configuration of a new run, and what else is asked for.

    Raises:
      ValueError: something in it is wrong, or not there.
    """
    task = checked_task(arguments.flags)
    agent = str(arguments.flags.get("simulator.agent", ""))
    defaults = default_config(task, agent, arguments.tokens)
    defaults, arguments = teaching.asked(defaults, arguments)
    config = override(defaults, config_overrides(arguments))
    if "checkpoint" in arguments.flags:  # what is not there must fail at once
        weights.check_source(str(arguments.flags["checkpoint"]), config)
    check_extras(config, arguments)
    return config, arguments


def resume(arguments: Arguments) -> int:
    """Goes on with a run in its own folder: bit for bit, unless in a simulator."""
    started = time.perf_counter()
    found = weights.find_run(arguments.flags)
    from ppo_jax.runs import continuation, lock, metrics, processes, trainers

    path, which = processes.agree(lambda: list(map(str, found[:2])))
    folder = Path(path)
    processes.wait_for(folder / folders.CONFIG_FILE)
    with processes.in_first(partial(lock.held, folder)):
        saved = folders.load_config(folder)
        given = config_overrides(arguments, without={"task"})
        if arguments.tokens:
            given["simulator.overrides"] = tuple(arguments.tokens)
        config = override(saved, given)
        refuse_changes(folder, saved, config)
        processes.agree(partial(metrics.check_table, folder))
        check_extras(config, arguments)
        announce(config)
        with open_trainer(config, **how_to_open(arguments)) as trainer:
            restored = weights.restore(trainer, folder, which)
            trainers.lower(trainer)
            run = continuation.resume(trainer, restored.state, restored.meta)
            learned = weights.with_learning_rate(run.train, trainer, arguments)
            run = run._replace(train=learned)
            seconds = restored.meta["seconds"]
            return train(trainer, folder, run, seconds, started, arguments)


def how_to_open(arguments: Arguments) -> dict[str, bool]:
    """Returns what flags ask of the environments, see `tasks.make_trainer`."""
    return {
        "spread": True,
        "film": "video" in arguments.flags,
        "dump_nan": "dump_nan" in arguments.flags,
    }


def check_extras(config: Config, arguments: Arguments) -> None:
    """Raises ValueError if a logger, films or a dump are asked for that cannot be."""
    loggers.beside(config.logger)
    if "dump_nan" in arguments.flags:
        dumping.check(config, in_processes=bool(workers.flags_in(arguments)))
    interval = command_line.whole_number(arguments, "video_interval", 0)
    filming_beside.check(config.task, interval)


def config_overrides(
    arguments: Arguments, without: frozenset[str] | set[str] = frozenset()
) -> dict[str, Any]:
    """Returns all fields that the command line sets, by path."""
    given = arguments.flags | arguments.overrides
    return {k: v for k, v in given.items() if k not in NOT_CONFIG | without}


def refuse_changes(folder: Path, saved: Config, config: Config) -> None:
    """Raises ValueError if something that a run fixes would change in it."""
    before, after = flatten(saved), flatten(config)
    for path in before.keys() & after.keys():
        if path.startswith(FIXED_BY_RUN) and before[path] != after[path]:
            raise ValueError(
                f"{short_name(path)} = {after[path]!r} cannot change in a run that "
                f"goes on, {folder} has {before[path]!r}: leave it away, or start a "
                "new run from these weights without --resume"
            )
