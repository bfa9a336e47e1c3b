"""Trains a policy: `uv run train.py --task Cartpole`."""

import shlex
import sys
from pathlib import Path
from typing import Any

from play import film, make_trainer
from ppo_jax import cli
from ppo_jax.cli import Arguments, Flag
from ppo_jax.config import Config, find_path, override

FLAGS = [
    Flag("task", "NAME", "what to train, see --list (default: Cartpole)"),
    Flag("list", None, "list the tasks and stop"),
    Flag("num_envs", "N", "environments stepped together"),
    Flag("max_iterations", "N", "iterations, counted from the start of the run"),
    Flag("seed", "N", "seed of everything random"),
    Flag("run_name", "TEXT", "suffix of the run's folder"),
    Flag("experiment_name", "TEXT", "folder of the runs"),
    Flag("resume", None, "go on with the newest run, or with that of --checkpoint"),
    Flag("checkpoint", "PATH", "with --resume: the run; else: weights to start from"),
    Flag("logger", "NAME", "where curves go: tensorboard or none"),
    Flag("video", None, "film the trained policy at the end"),
    Flag("help", None, "show this"),
]
NOT_CONFIG = {"list", "resume", "checkpoint", "video", "help"}
EXAMPLES = {
    "uv run train.py": "train the default task, Cartpole, on this machine",
    "uv run train.py --task Franka-Lift --num_envs 512 --video": "another task, filmed",
    "uv run train.py --task Cartpole gamma=0.98 actor.hidden_dims=[64,64]": "other values",
    "uv run train.py --resume --max_iterations 300": "go on with the newest run",
}


def main() -> int:
    """Trains as the command line says; returns the exit code."""
    arguments = cli.parse(sys.argv[1:], FLAGS)
    if "help" in arguments.flags:
        cli.print_help("Train a policy with PPO.", EXAMPLES, FLAGS)
        return 0
    if "list" in arguments.flags:
        return list_tasks()

    cli.use_compilation_cache()
    if "resume" in arguments.flags:
        return resume(arguments)
    config = configure(arguments)
    trainer = make_trainer(config)
    start = None
    if "checkpoint" in arguments.flags:
        start = start_from_weights(trainer, arguments)
    folder = cli.new_run_folder(config)
    return train(trainer, folder, start, 0.0, arguments)


def list_tasks() -> int:
    """Prints every task with a line about it."""
    from envs import ADAPTERS, TASKS, describe

    for task in TASKS:
        print(f"  {task:<20} {describe(task)}")
    for prefix, (_, _, about) in ADAPTERS.items():
        print(f"  {prefix + ':NAME':<20} {about}")
    return 0


def config_overrides(arguments: Arguments) -> dict[str, Any]:
    """Returns all fields that the command line sets, by path."""
    flags = {find_path(k): v for k, v in arguments.flags.items() if k not in NOT_CONFIG}
    return flags | arguments.overrides


def configure(arguments: Arguments) -> Config:
    """Returns the task's configuration with the command line's changes."""
    from configs import config_for

    task = str(arguments.flags.get("task", "Cartpole"))
    return override(config_for(task), config_overrides(arguments))


def start_from_weights(trainer: Any, arguments: Arguments) -> Any:
    """Returns a run at iteration 0 with what another run has learned."""
    import jax
    import jax.numpy as jnp

    from ppo_jax import checkpoint, runner

    selector = str(arguments.flags["checkpoint"])
    folder, which = cli.find_run(selector, cli.experiment_of(trainer.config))
    template = runner.abstract_run(trainer).train
    restored = checkpoint.restore_train(folder, template, which)
    print(*restored.skipped, f"Starting from {folder} at {restored.iteration}.")
    run = trainer.init(jax.random.key(trainer.config.seed))
    learned = restored.state._replace(iteration=jnp.zeros((), jnp.int32))
    return run._replace(train=_with_learning_rate(learned, trainer, arguments))


def resume(arguments: Arguments) -> int:
    """Goes on with a run in its own folder, bit for bit."""
    from configs import config_for
    from ppo_jax import checkpoint, config, runner

    task = str(arguments.flags.get("task", "Cartpole"))
    experiment = cli.experiment_of(
        override(config_for(task), config_overrides(arguments))
    )
    selector = arguments.flags.get("checkpoint")
    folder, which = cli.find_run(selector and str(selector), experiment)
    updated = override(cli.load_config(folder), config_overrides(arguments))
    trainer = make_trainer(updated)
    restored = checkpoint.restore_run(folder, runner.abstract_run(trainer), which)
    print(*restored.skipped, f"Resuming {folder} at iteration {restored.iteration}.")
    if restored.iteration >= updated.max_iterations:
        raise ValueError(
            f"{folder} has already done {restored.iteration} iterations: give a larger "
            f"--max_iterations than {updated.max_iterations}"
        )
    config.save(updated, folder / cli.CONFIG_FILE)
    run = restored.state
    run = run._replace(train=_with_learning_rate(run.train, trainer, arguments))
    return train(trainer, folder, run, restored.meta["seconds"], arguments)


def train(
    trainer: Any, folder: Path, run: Any, seconds_before: float, arguments: Arguments
) -> int:
    """Runs the training loop with its display and ends with the result."""
    from ppo_jax import console, runner

    config = trainer.config
    display = console.open_display()
    display.note(
        f"{config.task}: {config.num_envs} environments x {config.num_steps_per_env} "
        f"steps, {config.max_iterations} iterations, seed {config.seed}; compiling ..."
    )
    with display.context:
        try:
            outcome = runner.run_training(
                trainer,
                folder,
                run,
                seconds_before,
                on_compiled=lambda s: display.note(f"compiled in {s:.1f} s"),
                on_iteration=display.show,
            )
        except runner.NotFinite as error:
            display.note(str(error))
            return 1
    report(outcome, config)
    if "video" in arguments.flags and not outcome.stopped_by:
        path = folder / "videos" / "play.mp4"
        print(f"  video           {film(trainer, outcome.run.train, path, config.seed)}")
    if outcome.stopped_by:
        command = f"uv run train.py --resume --checkpoint {shlex.quote(str(folder))}"
        print(f"Stopped by {outcome.stopped_by}; everything is saved. Go on with: {command}")
        return 130 if outcome.stopped_by == "SIGINT" else 143
    return 0


def report(outcome: Any, config: Config) -> None:
    """Prints the result and where to look."""
    from ppo_jax import checkpoint, plots

    progress, folder = outcome.progress, outcome.folder
    result = progress.scalars["episode_return"]
    picture = plots.save_learning_curve(folder, config.task, config.solved_return)
    print(
        f"\nTrained {progress.iteration} iterations, {progress.env_steps:,} environment "
        f"steps, in {progress.seconds:.1f} s after {outcome.compile_seconds:.1f} s of "
        "compiling."
    )
    print(f"  run             {folder}")
    print(f"  checkpoint      {folder / checkpoint.FOLDER / str(progress.iteration)}")
    print(f"  learning curve  {picture}")
    play = f"uv run play.py --task {config.task} --video {config.task.lower()}.mp4"
    print(f"  watch it        {play.replace(':', '-') if ':' in play else play}")
    if config.logger == "tensorboard":
        print(f"  curves          uv run tensorboard --logdir {folder.parent}")
    verdict = f"Mean return of the last 100 episodes: {result:.2f}"
    if config.solved_return is None:
        print(verdict + ".")
    elif outcome.solved_at:
        print(
            f"{verdict}. Solved: {config.solved_return:g} was reached at iteration "
            f"{outcome.solved_at}."
        )
    else:
        print(f"{verdict}. Not solved: the goal is {config.solved_return:g}.")


def _with_learning_rate(state: Any, trainer: Any, arguments: Arguments) -> Any:
    """Puts a learning rate that was typed into a restored state, where it is kept."""
    import jax.numpy as jnp

    if "algorithm.learning_rate" not in arguments.overrides:
        return state
    rate = jnp.asarray(trainer.config.algorithm.learning_rate, jnp.float32)
    return state._replace(learning_rate=rate)


if __name__ == "__main__":
    cli.run_script(main)
