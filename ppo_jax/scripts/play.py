"""Plays a trained policy: `uv run play.py --task Cartpole --video cartpole.mp4`."""

import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppo_jax import cli
from ppo_jax.cli import Flag
from ppo_jax.config import Config, override, parse_literal
from ppo_jax.options import check_options, option, positive, seed_number

DEFAULT_TASK = "Cartpole"
FRAMES_PER_SECOND = 30
VIDEO_SUFFIXES = {".mp4", ".gif"}
FLAGS = [
    Flag("task", "NAME", f"whose newest run to play ({DEFAULT_TASK})"),
    Flag("checkpoint", "PATH", "a run, a checkpoint in it, latest or best"),
    Flag("num_envs", "N", "episodes, one in each environment (100)"),
    Flag("seed", "N", "seed of the episodes (0)"),
    Flag("experiment_name", "TEXT", "folder of the runs, where it is not the task's"),
    Flag("clip_actions", "X", "the environment sees actions clipped to +- this"),
    Flag("video", "FILE", "film one episode into FILE.mp4 or FILE.gif"),
    Flag("help", None, "show this"),
]
EXAMPLES = {
    "uv run play.py": "play the newest Cartpole policy 100 times",
    "uv run play.py --task Franka-Reach --video reach.gif": "another task, filmed",
    "uv run play.py --checkpoint best": "the checkpoint with the best return",
}


@dataclass(frozen=True)
class Episodes:
    """Which episodes are played."""

    num_envs: int = option(100, "episodes, one in each environment", positive)
    seed: int = option(0, "seed of the episodes", seed_number)

    def __post_init__(self) -> None:
        """Checks every field."""
        check_options(self)


def main() -> int:
    """Plays as the command line says; returns the exit code."""
    arguments = cli.parse(sys.argv[1:], FLAGS, fields=False)
    flags = arguments.flags
    if "help" in flags:
        cli.refuse_others(arguments, "--help", {"help"})
        cli.print_help("Play a trained policy.", EXAMPLES, FLAGS)
        return 0
    video = Path(str(flags["video"])) if "video" in flags else None
    if video and video.suffix.lower() not in VIDEO_SUFFIXES:
        raise ValueError(f"--video {video}: name the file .mp4 or .gif")
    given = {k: str(flags[k]) for k in ("num_envs", "seed") if k in flags}
    episodes = Episodes(**{k: parse_literal(text) for k, text in given.items()})
    cli.use_compilation_cache()
    play(flags, episodes, video)
    return 0


def play(flags: Mapping[str, Any], episodes: Episodes, video: Path | None) -> None:
    """Plays episodes with the deterministic policy, and prints how they went."""
    import jax

    from ppo_jax import checkpoint, evaluation, runner

    folder, which, config = find_run(flags)
    clip = {k: v for k, v in flags.items() if k == "clip_actions"}
    trainer = make_trainer(override(config, clip), episodes.num_envs)
    template = runner.abstract_run(trainer).train
    restored = checkpoint.restore_train(folder, template, which)
    print(*restored.skipped, f"Playing {folder} at iteration {restored.iteration}.")
    result = jax.jit(evaluation.evaluate, static_argnums=(0, 1))(
        trainer.ppo, trainer.env, restored.state, jax.random.key(episodes.seed)
    )
    for line in summary(result):
        print(line)
    if video:
        print(f"Video: {film(trainer, restored.state, video, episodes.seed)}")


def checked_task(flags: Mapping[str, Any]) -> str:
    """Returns the task that flags name.

    Raises:
      ValueError: there is no such task; names the nearest.
    """
    from configs import CONFIGS
    from envs import make_task

    task = str(flags.get("task", DEFAULT_TASK))
    if task not in CONFIGS:
        make_task(task)
    return task


def find_run(flags: Mapping[str, Any]) -> tuple[Path, str, Config]:
    """Returns the folder of the run that flags name, its checkpoint and configuration.

    Raises:
      ValueError: there is no such run, or it is of another task or experiment.
    """
    from configs import config_for

    default = cli.experiment_of(config_for(checked_task(flags)))
    experiment = str(flags.get("experiment_name", default))
    folder, which = cli.find_run(flags.get("checkpoint"), experiment)
    config = cli.load_config(folder)
    found = {"task": config.task, "experiment_name": cli.experiment_of(config)}
    for name, value in found.items():
        if flags.get(name, value) != value:
            raise ValueError(
                f"--{name} {flags[name]} does not fit --checkpoint: {folder} has "
                f"{value}; leave one of them away"
            )
    return folder, which, config


def make_trainer(config: Config, num_envs: int | None = None) -> Any:
    """Returns the algorithm and its environments."""
    from envs import make
    from ppo_jax import runner

    env = make(config.task, num_envs or config.num_envs, config.clip_actions)
    return runner.make_trainer(config, env)


def summary(result: Any) -> Iterator[str]:
    """Yields a line on the returns, the lengths, and each thing the task reports."""
    returns, lengths = result.episode_return, result.episode_length
    yield (
        f"Return over {len(returns)} episodes: {returns.mean():.3f} +- "
        f"{returns.std():.3f} (min {returns.min():.3f}, max {returns.max():.3f})"
    )
    yield f"Episode length: {lengths.mean():.1f} steps"
    for tag, values in result.log.items():
        if tag.endswith("success_rate"):
            yield f"Success: {values.sum():.0f} of {len(values)} episodes"
        else:
            yield f"{tag.removeprefix('Metrics/')}: {values.mean():.3f}"


def film(trainer: Any, state: Any, path: Path, seed: int) -> Path:
    """Films one episode of the deterministic policy; returns the file."""
    import jax

    from envs import make
    from envs.drawing import picture, write_video
    from ppo_jax import evaluation

    config = trainer.config
    env: Any = make(config.task, 1, config.clip_actions)
    recording = jax.jit(evaluation.record, static_argnums=(0, 1))(
        trainer.ppo, env, state, jax.random.key(seed)
    )
    recording = jax.device_get(recording)
    stride = max(1, round(1 / (env.step_dt * FRAMES_PER_SECOND)))

    def frames() -> Iterator[Any]:
        for step in range(0, len(recording.done), stride):
            if recording.done[step]:
                break
            task_state = jax.tree.map(
                lambda x: x[step, 0],  # noqa: B023
                recording.env_state.task_state,
            )
            caption = f"{config.task}   {step * env.step_dt:4.1f} s"
            yield picture(env.task, task_state, caption=caption)

    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():  # ffmpeg is started by a fork that execs at once
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        write_video(path, frames(), fps=1 / (env.step_dt * stride))
    return path
