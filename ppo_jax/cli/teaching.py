"""Distillation from a command line: whose student it is, and where the teacher is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ppo_jax.cli.command_line import Arguments
from ppo_jax.cli.weights import RSL_RL_SUFFIX
from ppo_jax.runs import folders
from ppo_jax.runs.config import Config
from ppo_jax.runs.students import distillation_of, is_distillation

CLASS, TEACHER = "algorithm.class_name", "algorithm.teacher_checkpoint"


def asked(defaults: Config, arguments: Arguments) -> tuple[Config, Arguments]:
    """Returns a configuration to start from, and what the command line sets in it.

    Where Distillation is asked for, a task's configuration of PPO becomes one of it.
    The teacher's network is that of the run which `--checkpoint`, or
    `teacher_checkpoint`, names. A run of distillation gives its student as the
    teacher's successor: named by `--checkpoint`, both of its networks go on.

    Raises:
      ValueError: the class is no algorithm, or there are two teachers.
    """
    wanted = arguments.overrides.get(CLASS)
    if is_distillation(defaults):
        if wanted not in (None, "Distillation"):
            raise ValueError(
                f"{CLASS} = {wanted!r}, but the agent's configuration is one of "
                "Distillation: choose another with --agent"
            )
    elif wanted != "Distillation":
        return defaults, arguments
    source = arguments.flags.get("checkpoint")
    if source is not None and TEACHER in arguments.overrides:
        raise ValueError(
            "--checkpoint and teacher_checkpoint both name a teacher: leave one away"
        )
    named = str(source or arguments.overrides.get(TEACHER, ""))
    if not named:
        raise ValueError(
            "Distillation needs a teacher: give --checkpoint with a run, a checkpoint "
            "of it, or a model_N.pt of rsl_rl"
        )
    return _with_source(defaults, arguments, named, source is not None)


def _with_source(
    defaults: Config, arguments: Arguments, named: str, is_flag: bool
) -> tuple[Config, Arguments]:
    """Returns both with the network, and the place, of the teacher that is named."""
    if named.endswith(RSL_RL_SUFFIX):
        config = defaults if is_distillation(defaults) else distillation_of(defaults)
        return config, _teacher_is(arguments, named)
    experiment = arguments.overrides.get("experiment_name")
    experiment = arguments.flags.get("experiment_name", experiment)
    experiment = str(experiment or folders.experiment_of(defaults))
    folder, which = folders.find_run(named, experiment)
    run = folders.load_config(folder)
    if is_flag and is_distillation(run):  # both networks go on in a new run
        config = replace(run, **_kept(defaults))
        return config, arguments
    if is_distillation(defaults):
        learned = distillation_of(Config(), run)
        groups = defaults.obs_groups | {"teacher": learned.obs_groups["teacher"]}
        config = replace(defaults, teacher=learned.teacher, obs_groups=groups)
    else:
        config = distillation_of(defaults, run)
    place = folder if which == "latest" else folder / "checkpoints" / which
    return config, _teacher_is(arguments, str(place))


def _kept(defaults: Config) -> dict[str, Any]:
    """Returns what a new run does not take over from the one it goes on from."""
    return {name: getattr(defaults, name) for name in ("task", "run_name", "simulator")}


def _teacher_is(arguments: Arguments, place: str) -> Arguments:
    """Returns a command line that names the teacher in the configuration alone."""
    flags = {k: v for k, v in arguments.flags.items() if k != "checkpoint"}
    overrides = arguments.overrides | {TEACHER: place}
    return arguments._replace(flags=flags, overrides=overrides)


def load_teacher(trainer: Any) -> Any:
    """Returns what the configured teacher has learned, and prints from where it is."""
    from ppo_jax.runs import teachers

    learned = teachers.load_teacher(trainer, _read_file)
    print(f"The teacher is {trainer.config.algorithm.teacher_checkpoint}.")
    return learned


def _read_file(path: Path, config: Config) -> Any:
    from ppo_jax.learning.distillation import Learned
    from ppo_jax.rsl_rl.student_files import load_teacher as load_file

    return Learned(*load_file(path, config))
