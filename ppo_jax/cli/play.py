"""Plays a trained policy: `uv run play.py --task Cartpole --video cartpole.mp4`."""

import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from ppo_jax.cli import command_line, entry, help_page
from ppo_jax.cli.command_line import Arguments, Flag, field_flag
from ppo_jax.cli.tasks import (
    DEFAULT_TASK,
    checked_task,
    default_config,
    load_rsl_rl,
    open_trainer,
    parse,
)
from ppo_jax.options import check_options, option, positive, seed_number
from ppo_jax.runs import folders
from ppo_jax.runs.config import Config
from ppo_jax.runs.config_fields import override, parse_literal
from ppo_jax.types import Simulator, TrainState

CHANGEABLE = ("clip_actions", "simulator.device", "simulator.bridge")
RSL_RL_SUFFIX = ".pt"
FRAMES_PER_SECOND = 30
VIDEO_SUFFIXES = {".mp4", ".gif"}
FLAGS = [
    Flag("task", "NAME", f"whose newest run to play ({DEFAULT_TASK})"),
    Flag(
        "checkpoint",
        "PATH",
        "a run, a checkpoint of it, latest, best or an rsl_rl .pt",
    ),
    Flag("export", "FILE", "write the policy as a model_N.pt that rsl_rl loads"),
    Flag("num_envs", "N", "episodes, one in each environment (100)"),
    Flag("seed", "N", "seed of the episodes (0)"),
    Flag("experiment_name", "TEXT", "folder of the runs, where it is not the task's"),
    field_flag("clip_actions", "X"),
    Flag("video", "FILE", "film one episode into FILE.mp4 or FILE.gif"),
    field_flag("simulator.device", "NAME"),
    field_flag("simulator.bridge", "NAME"),
    Flag("train_env_cfg", None, "play Isaac Lab's task as it was trained, with noise"),
    Flag("headless", None, "accepted, and always so"),
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


def run(argv: list[str]) -> NoReturn:
    """Plays as Isaac Lab's own command line asks: `isaaclab play`."""
    sys.argv = ["play.py", *argv]
    entry.run_script(main)


def main() -> int:
    """Plays as the command line says; returns the exit code."""
    arguments = parse(sys.argv[1:], FLAGS, fields=False)
    flags = arguments.flags
    if "help" in flags:
        command_line.refuse_others(arguments, "--help", {"help"})
        help_page.print_help("Play a trained policy.", EXAMPLES, FLAGS)
        return 0
    video = Path(str(flags["video"])) if "video" in flags else None
    if video and video.suffix.lower() not in VIDEO_SUFFIXES:
        raise ValueError(f"--video {video}: name the file .mp4 or .gif")
    given = {k: str(flags[k]) for k in ("num_envs", "seed") if k in flags}
    episodes = Episodes(**{k: parse_literal(text) for k, text in given.items()})
    entry.use_compilation_cache()
    play(arguments, episodes, video)
    return 0


def play(arguments: Arguments, episodes: Episodes, video: Path | None) -> None:
    """Plays episodes with the deterministic policy, and prints how they went."""
    import jax

    from ppo_jax.runs import trainers

    flags = arguments.flags
    source = str(flags.get("checkpoint", ""))
    if source.endswith(RSL_RL_SUFFIX):
        load = partial(load_foreign, path=Path(source))
        config = default_config(checked_task(flags))
    else:
        folder, which, config = find_run(flags)
        load = partial(load_checkpoint, folder=folder, which=which)
    changes: dict[str, Any] = {k: v for k, v in flags.items() if k in CHANGEABLE}
    overrides = (*config.simulator.overrides, *arguments.tokens)
    config = override(config, changes | {"simulator.overrides": overrides})
    how = {"play_mode": "train_env_cfg" not in flags, "film": video is not None}
    with open_trainer(config, episodes.num_envs, **how) as trainer:
        state = load(trainer)
        if "export" in flags:
            export(Path(str(flags["export"])), config, state)
        key = jax.random.key(episodes.seed)
        for line in summary(*trainers.evaluate(trainer, state, key)):
            print(line)
        if video:
            print(f"Video: {film(trainer, state, video, episodes.seed)}")


def load_foreign(trainer: Any, path: Path) -> TrainState:
    """Returns what rsl_rl had learned, and prints from where it is."""
    state = load_rsl_rl(trainer, path)
    print(f"Playing {path} at iteration {int(state.iteration)}.")
    return state


def load_checkpoint(trainer: Any, folder: Path, which: str) -> TrainState:
    """Returns what was learned in a run, and prints from where it is."""
    from ppo_jax.runs import checkpoint, trainers

    template = trainers.abstract_run(trainer).train
    restored = checkpoint.restore_train(folder, template, which)
    print(*restored.skipped, f"Playing {folder} at iteration {restored.iteration}.")
    return restored.state


def export(path: Path, config: Config, state: TrainState) -> None:
    """Writes a policy for rsl_rl.

    Raises:
      ValueError: the file is not named as rsl_rl's are, or the policy is not like its.
    """
    from ppo_jax.rsl_rl.files import save_model

    if path.suffix != RSL_RL_SUFFIX:
        raise ValueError(f"--export {path}: name the file model_N{RSL_RL_SUFFIX}")
    save_model(path, config, state)
    print(f"For rsl_rl: {path}")


def find_run(flags: Mapping[str, Any]) -> tuple[Path, str, Config]:
    """Returns the folder of the run that flags name, its checkpoint and configuration.

    Raises:
      ValueError: there is no such run, or it is of another task or experiment.
    """
    task = checked_task(flags)
    experiment = flags.get("experiment_name")
    if experiment is None:
        experiment = folders.experiment_of(default_config(task))
    folder, which = folders.find_run(flags.get("checkpoint"), str(experiment))
    config = folders.load_config(folder)
    found = {"task": config.task, "experiment_name": folders.experiment_of(config)}
    for name, value in found.items():
        if flags.get(name, value) != value:
            raise ValueError(
                f"--{name} {flags[name]} does not fit --checkpoint: {folder} has "
                f"{value}; leave one of them away"
            )
    return folder, which, config


def summary(result: Any, reported: Mapping[str, float]) -> Iterator[str]:
    """Yields a line on the returns, the lengths, and each thing that was reported.

    Args:
      result: `Evaluation` of the episodes.
      reported: {tag: mean} of what a simulator logged meanwhile.
    """
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
    for tag, value in reported.items():
        if tag.startswith("Perf/"):
            continue
        yield f"{tag.removeprefix('Metrics/')}: {value:.3f}"


def film(trainer: Any, state: Any, path: Path, seed: int) -> Path:
    """Films one episode of the deterministic policy; returns the file."""
    from envs.drawing import write_video

    step_dt = trainer.env.step_dt
    stride = max(1, round(1 / (step_dt * FRAMES_PER_SECOND)))
    is_simulated = isinstance(trainer.env, Simulator)
    frames = _photographed if is_simulated else _drawn
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():  # ffmpeg is started by a fork that execs at once
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        pictures = frames(trainer, state, seed, stride)
        write_video(path, pictures, fps=1 / (step_dt * stride))
    return path


def _drawn(trainer: Any, state: Any, seed: int, stride: int) -> Iterator[Any]:
    """Yields drawings of every `stride`-th state of an episode."""
    import jax

    from envs import make
    from envs.drawing import picture
    from ppo_jax.loops import evaluation

    config = trainer.config
    env: Any = make(config.task, 1, config.clip_actions)
    recording = jax.jit(evaluation.record, static_argnums=(0, 1))(
        trainer.ppo, env, state, jax.random.key(seed)
    )
    recording = jax.device_get(recording)
    for step in range(0, len(recording.done), stride):
        if recording.done[step]:
            break
        task_state = jax.tree.map(
            lambda x: x[step, 0],  # noqa: B023
            recording.env_state.task_state,
        )
        caption = f"{config.task}   {step * env.step_dt:4.1f} s"
        yield picture(env.task, task_state, caption=caption)


def _photographed(trainer: Any, state: Any, seed: int, stride: int) -> Iterator[Any]:
    """Yields pictures of a simulator while the first environment plays an episode."""
    import jax

    env, mode = trainer.env, jax.jit(trainer.ppo.mode)
    env_state, obs = env.reset(jax.random.key(seed))
    for step in range(env.max_episode_length):
        if step % stride == 0:
            yield env.torch_env.frame()
        env_state, timestep = env.step(env_state, mode(state, obs))
        obs = timestep.obs
        if timestep.terminated[0] | timestep.truncated[0]:
            break
