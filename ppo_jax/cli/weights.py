"""Where a command finds what was learned: in a run, a checkpoint or rsl_rl's file."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppo_jax.cli.command_line import Arguments
from ppo_jax.cli.tasks import checked_task, default_config
from ppo_jax.runs import folders
from ppo_jax.runs.config import Config
from ppo_jax.runs.students import is_distillation

if TYPE_CHECKING:
    from ppo_jax.types import TrainState

RSL_RL_SUFFIX = ".pt"


def find_run(flags: Mapping[str, Any]) -> tuple[Path, str, Config]:
    """Returns the folder of the run that flags name, its checkpoint and configuration.

    Raises:
      ValueError: there is no such run, or it is of another task or experiment.
    """
    task = checked_task(flags)
    experiment = flags.get("experiment_name")
    if experiment is None:
        experiment = folders.experiment_of(default_config(task))
    selector, meant = flags.get("checkpoint"), flags.get("task")
    folder, which = folders.find_run(selector, str(experiment), meant)
    config = folders.load_config(folder)
    found = {"task": config.task, "experiment_name": folders.experiment_of(config)}
    for name, value in found.items():
        if flags.get(name, value) != value:
            raise ValueError(
                f"--{name} {flags[name]} does not fit --checkpoint: {folder} has "
                f"{value}; leave one of them away"
            )
    return folder, which, config


def is_newest(flags: Mapping[str, Any]) -> bool:
    """Returns whether flags mean a run's newest checkpoint, whichever that is."""
    selector = str(flags.get("checkpoint", ""))
    return not selector.endswith(RSL_RL_SUFFIX) and find_run(flags)[1] == "latest"


def load_foreign(trainer: Any, path: Path) -> "TrainState":
    """Returns what rsl_rl had learned, and prints from where it is."""
    state = load_rsl_rl(trainer, path)
    print(f"Playing {path} at iteration {int(state.iteration)}.")
    return state


def load_checkpoint(trainer: Any, folder: Path, which: str) -> "TrainState":
    """Returns what was learned in a run, and prints from where it is."""
    from ppo_jax.runs import checkpoint, continuation, trainers

    template = trainers.abstract_run(trainer).train
    restored = checkpoint.restore_train(folder, template, which)
    continuation.put_back(trainer.env, restored.meta)
    print(*restored.skipped, f"Playing {folder} at iteration {restored.iteration}.")
    return restored.state


def restore(trainer: Any, folder: Path, which: str) -> Any:
    """Reads the checkpoint that a run goes on from.

    Raises:
      ValueError: it is not the newest, or has done all iterations already.
    """
    from ppo_jax.runs import checkpoint, continuation, devices, trainers
    from ppo_jax.types import RunState

    like = continuation.saved_part(trainer, trainers.abstract_run(trainer))
    template = devices.saved_shapes(trainer.mesh, like)
    count = devices.size(trainer.mesh)
    restored = checkpoint.restore_run(folder, template, which, count)
    if isinstance(restored.state, RunState):
        state = devices.with_keys(trainer.mesh, restored.state, like)
        restored = restored._replace(state=state)
    print(*restored.skipped, f"Resuming {folder} at iteration {restored.iteration}.")
    if (before := restored.meta.get("shards", 1)) != count:
        print(
            f"It was on {before} devices and is now on {count}: what was learned goes "
            "on; episodes, random numbers and their statistics begin anew."
        )
    if changed := folders.changed_versions(folder):
        print(changed)
    newest = checkpoint.iterations(folder)[-1]
    if which != "latest" and newest > restored.iteration:
        raise ValueError(
            f"{folder} has a newer checkpoint, {newest}: resume without naming one, or "
            "start a new run from this one's weights without --resume"
        )
    if restored.iteration >= trainer.config.max_iterations:
        raise ValueError(
            f"{folder} has already done {restored.iteration} iterations: give a larger "
            f"--max_iterations than {trainer.config.max_iterations}"
        )
    return restored


def check_source(selector: str, config: Config) -> None:
    """Raises ValueError unless there is something to start from."""
    if not selector.endswith(RSL_RL_SUFFIX):
        folders.find_run(selector, folders.experiment_of(config))
    elif not Path(selector).is_file():
        raise ValueError(
            f"--checkpoint {selector}: there is no such file; give a model_N.pt of "
            "rsl_rl, or the folder of a run"
        )


def start_from_weights(trainer: Any, arguments: Arguments) -> Any:
    """Returns a run at iteration 0 with what another run, or rsl_rl, has learned."""
    import jax.numpy as jnp

    from ppo_jax.runs import checkpoint, trainers

    selector = str(arguments.flags["checkpoint"])
    if selector.endswith(RSL_RL_SUFFIX):
        learned = load_rsl_rl(trainer, Path(selector))
        print(f"Starting from {selector} at {int(learned.iteration)}.")
    else:
        folder, which = folders.find_run(
            selector, folders.experiment_of(trainer.config)
        )
        config = folders.load_config(folder)
        if is_distillation(config) and not is_distillation(trainer.config):
            return start_from_student(trainer, folder, which, config)
        template = trainers.abstract_run(trainer).train
        restored = checkpoint.restore_train(folder, template, which)
        print(*restored.skipped, f"Starting from {folder} at {restored.iteration}.")
        learned = restored.state
    learned = learned._replace(iteration=jnp.zeros((), jnp.int32))
    learned = with_learning_rate(learned, trainer, arguments)
    schedule = trainer.config.algorithm.schedule
    print(f"The {schedule} learning rate is {float(learned.learning_rate):g}.")
    return trainers.start(trainer)._replace(train=learned)


def start_from_student(trainer: Any, folder: Path, which: str, config: Config) -> Any:
    """Returns a run of PPO whose policy is a student's; its value function is new.

    Raises:
      ValueError: the student has another network than the actor.
    """
    from ppo_jax.learning.distillation import policy_of, with_student
    from ppo_jax.runs import checkpoint, trainers

    source = trainers.make_trainer(config, trainer.env)
    template = trainers.abstract_run(source).train
    restored = checkpoint.restore_train(folder, template, which)
    print(*restored.skipped, f"Starting from {folder} at {restored.iteration}.")
    run = trainers.start(trainer)
    learned = with_student(run.train, policy_of(restored.state))
    require_same_shapes(str(folder), trainer.config.task, learned, run.train)
    return run._replace(train=learned)


def start_with_teacher(trainer: Any, teacher: Any) -> Any:
    """Returns a run of distillation before its first iteration."""
    from ppo_jax.learning.distillation import with_teacher
    from ppo_jax.runs import trainers

    run = trainers.start(trainer)
    return run._replace(train=with_teacher(run.train, teacher))


def load_rsl_rl(trainer: Any, path: Path) -> "TrainState":
    """Returns what rsl_rl had learned when it wrote a `model_*.pt`.

    Raises:
      ValueError: the file is something else, or does not fit the task.
    """
    from ppo_jax.rsl_rl.files import load_model
    from ppo_jax.runs import trainers

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        state = load_model(path, trainer.config)
    for warning in said:
        print(f"{path}: {warning.message}.")
    wanted = trainers.abstract_run(trainer).train
    require_same_shapes(str(path), trainer.config.task, state, wanted)
    return state


def require_same_shapes(path: str, task: str, learned: Any, wanted: Any) -> None:
    """Raises ValueError, with its name, if a weight has not the shape of a task's."""
    import jax

    found = dict(jax.tree.leaves_with_path((learned.params, learned.obs_stats)))
    right = dict(jax.tree.leaves_with_path((wanted.params, wanted.obs_stats)))
    for place in [*right, *found]:
        shapes = [
            list(side[place].shape) if place in side else "missing"
            for side in (found, right)
        ]
        if shapes[0] != shapes[1]:
            name = jax.tree_util.keystr(place[1:], simple=True, separator=".")
            raise ValueError(
                f"{path} does not fit {task}: {name} is {shapes[0]} there and "
                f"{shapes[1]} here"
            )


def with_learning_rate(state: Any, trainer: Any, arguments: Arguments) -> Any:
    """Returns a restored state with the learning rate that it goes on with.

    That is the one that was typed; else the configured one of a fixed schedule, or the
    one that an adaptive schedule had come to.
    """
    import jax.numpy as jnp

    algorithm = trainer.config.algorithm
    is_typed = "algorithm.learning_rate" in arguments.overrides
    if not is_typed and algorithm.schedule == "adaptive":
        return state
    rate = jnp.asarray(algorithm.learning_rate, jnp.float32)
    return state._replace(learning_rate=rate)
