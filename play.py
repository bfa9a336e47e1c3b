"""Plays a trained policy: `uv run play.py --task Cartpole --video cartpole.mp4`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ppo_jax import cli
from ppo_jax.cli import Flag

FRAMES_PER_SECOND = 30
VIDEO_SUFFIXES = {".mp4", ".gif"}
FLAGS = [
    Flag("task", "NAME", "whose newest run to play (default: Cartpole)"),
    Flag("checkpoint", "PATH", "a run or a checkpoint in it, latest or best"),
    Flag("num_envs", "N", "episodes, one in each environment (default: 100)"),
    Flag("seed", "N", "seed of the episodes (default: 0)"),
    Flag("experiment_name", "TEXT", "folder of the runs, where it is not the task's"),
    Flag("video", "FILE", "film one episode into FILE.mp4 or FILE.gif"),
    Flag("help", None, "show this"),
]
EXAMPLES = {
    "uv run play.py": "play the newest Cartpole policy 100 times",
    "uv run play.py --task Franka-Reach --video reach.gif": "another task, filmed",
    "uv run play.py --checkpoint best": "the checkpoint with the best return",
}


def main() -> int:
    """Plays as the command line says; returns the exit code."""
    arguments = cli.parse(sys.argv[1:], FLAGS)
    flags = arguments.flags
    if "help" in flags:
        cli.print_help("Play a trained policy.", EXAMPLES, FLAGS)
        return 0

    import jax

    from ppo_jax import checkpoint, evaluation, runner
    from ppo_jax.config import override

    video = Path(str(flags["video"])) if "video" in flags else None
    if video and video.suffix.lower() not in VIDEO_SUFFIXES:
        raise ValueError(f"--video {video}: name the file .mp4 or .gif")
    cli.use_compilation_cache()
    folder, which = cli.find_run(_text(flags, "checkpoint"), _experiment(flags))
    episodes = {
        "num_envs": flags.get("num_envs", 100),
        "seed": flags.get("seed", 0),
    }
    config = override(cli.load_config(folder), arguments.overrides | episodes)
    trainer = make_trainer(config)
    template = runner.abstract_run(trainer).train
    restored = checkpoint.restore_train(folder, template, which)
    print(*restored.skipped, f"Playing {folder} at iteration {restored.iteration}.")

    result = jax.jit(evaluation.evaluate, static_argnums=(0, 1))(
        trainer.ppo, trainer.env, restored.state, jax.random.key(config.seed)
    )
    for line in summary(result):
        print(line)
    if video:
        print(f"Video: {film(trainer, restored.state, video, config.seed)}")
    return 0


def make_trainer(config: Any) -> Any:
    """Returns the algorithm and its environments."""
    from envs import make
    from ppo_jax import runner

    env = make(config.task, config.num_envs, config.clip_actions)
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
        yield f"{tag.removeprefix('Metrics/')}: {values.mean():.3f}"


def film(trainer: Any, state: Any, path: Path, seed: int) -> Path:
    """Films one episode of the deterministic policy; returns the file."""
    import jax

    from envs import make
    from envs.drawing import picture, write_video
    from ppo_jax import evaluation

    config = trainer.config
    env = make(config.task, 1, config.clip_actions)
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
    write_video(path, frames(), fps=1 / (env.step_dt * stride))
    return path


def _experiment(flags: dict[str, Any]) -> str:
    return str(flags.get("experiment_name") or flags.get("task", "Cartpole")).replace(
        ":", "-"
    )


def _text(flags: dict[str, Any], name: str) -> str | None:
    return str(flags[name]) if name in flags else None


if __name__ == "__main__":
    cli.run_script(main)
