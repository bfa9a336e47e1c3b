"""Films of an episode: drawn from the states of a task, or taken in a simulator."""

import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from ppo_jax.cli.simulators import backend_of
from ppo_jax.runs.config import Config
from ppo_jax.runs.recorded import VIDEOS

FRAMES_PER_SECOND = 30
CLIP = "clip.webp"  # what nobody has asked for, beside films
CLIP_FRAMES_PER_SECOND, CLIP_SIZE = 15, (400, 300)
CLIP_TRAINING = 3.0  # seconds, of which there is one
SUFFIXES = (".mp4", ".gif")


def check_name(path: Path) -> None:
    """Raises ValueError unless a film can be called so."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--video {path}: name the file .mp4 or .gif")


def check_writable(path: Path) -> None:
    """Makes the folder of a film and tries to write there, before any work is done.

    Raises:
      ValueError: it cannot be written; names the file and the reason.
    """
    is_new = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):  # what is there stays until the film is
            pass
    except OSError as error:
        raise ValueError(
            f"--video {path} cannot be written ({error.strerror}): name a file in a "
            "folder that you may write to"
        ) from None
    if is_new:
        path.unlink()


def clip(trainer: Any, state: Any, folder: Path) -> Path:
    """Films an episode for the report of a run, small; returns the file."""
    path, seed = folder / VIDEOS / CLIP, trainer.config.seed
    return film(trainer, state, path, seed, CLIP_FRAMES_PER_SECOND, CLIP_SIZE)


def rehearse(trainer: Any) -> None:
    """Compiles and loads what `clip` needs: one picture, with a policy of zeros."""
    import jax
    import numpy as np

    from ppo_jax.runs import trainers

    shapes = trainers.abstract_run(trainer).train
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    learned, seed = jax.device_put(zeros), trainer.config.seed
    next(_drawn(trainer, learned, seed, 1, CLIP_SIZE), None)
    import_module("ppo_jax.envs.video")


def is_clip_due(config: Config, starting: float, training: float) -> bool:
    """Returns whether a run gets a clip that nobody has asked for.

    It must not take longer than 2 s, or 2 % of the training. What is compiled for it
    takes a quarter of what training took to start, or less. A run of a moment has
    nothing to show.

    Args:
      config: of the run.
      starting: seconds until the first iteration.
      training: seconds from there on.
    """
    if backend_of(config.task) or training < CLIP_TRAINING:
        return False
    return starting / 4 < max(2.0, 0.02 * training)


def film(
    trainer: Any,
    state: Any,
    path: Path,
    seed: int,
    frames_per_second: float | None = None,
    size: tuple[int, int] = (640, 480),
) -> Path:
    """Films one episode of the deterministic policy; returns the file.

    Args:
      trainer: of the task.
      state: what was learned.
      path: of the file.
      seed: of the episode.
      frames_per_second: None: the usual number.
      size: width and height of what is drawn, pixels.

    Raises:
      ValueError: it cannot be written.
    """
    from ppo_jax.types import Simulator

    step_dt = trainer.env.step_dt
    rate = frames_per_second or FRAMES_PER_SECOND
    stride = max(1, round(1 / (step_dt * rate)))
    is_simulated = isinstance(trainer.env, Simulator)
    frames = _photographed if is_simulated else partial(_drawn, size=size)
    write(path, frames(trainer, state, seed, stride), fps=1 / (step_dt * stride))
    return path


def write(path: Path, pictures: Iterable[Any], fps: float) -> None:
    """Writes pictures as a film.

    Raises:
      ValueError: it cannot be written.
    """
    from ppo_jax.envs.video import write_video

    check_writable(path)
    with warnings.catch_warnings():  # ffmpeg is started by a fork that execs at once
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        try:
            write_video(path, pictures, fps)
        except OSError as error:  # ffmpeg's own words would be pages
            raise ValueError(
                f"the film {path} could not be written: is the disk full? "
                f"({error.strerror or type(error).__name__})"
            ) from None


def _drawn(
    trainer: Any, state: Any, seed: int, stride: int, size: tuple[int, int]
) -> Iterator[Any]:
    """Yields drawings of every `stride`-th state of an episode."""
    import jax

    from ppo_jax.envs.drawing import pictures

    env, recording = _recorded(trainer, state, seed)
    steps = range(0, int((~recording.done).sum()), stride)
    states = (
        jax.tree.map(lambda x: x[step, 0], recording.env_state.task_state)  # noqa: B023
        for step in steps
    )
    captions = (
        f"{trainer.config.task}   {step * env.step_dt:4.1f} s" for step in steps
    )
    yield from pictures(env.task, zip(states, captions, strict=True), size)


def _recorded(trainer: Any, state: Any, seed: int) -> tuple[Any, Any]:
    """Returns one environment, and the states of an episode in it."""
    import jax

    from ppo_jax.compiling import jit, once
    from ppo_jax.envs import make
    from ppo_jax.loops import evaluation

    config = trainer.config
    env: Any = make(config.task, 1, config.clip_actions)
    record = jit(evaluation.record, static_argnums=(0, 1), compiler_options=once())
    recording = record(trainer.ppo, env, state, jax.random.key(seed))
    return env, jax.device_get(recording)


def _photographed(trainer: Any, state: Any, seed: int, stride: int) -> Iterator[Any]:
    """Yields pictures of a simulator while the first environment plays an episode."""
    import jax

    env, play = trainer.env, jax.jit(trainer.ppo.play)
    env_state, obs = env.reset(jax.random.key(seed))
    carry = trainer.ppo.initial_carry(obs)
    for step in range(env.max_episode_length):
        if step % stride == 0:
            yield env.torch_env.frame()
        action, carry = play(state, obs, carry)
        env_state, timestep = env.step(env_state, action)
        obs = timestep.obs
        if timestep.terminated[0] | timestep.truncated[0]:
            break
