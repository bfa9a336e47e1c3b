"""A training run on the host: the loop around the jitted iteration.

It saves, logs, watches for numbers that are not finite, and can be interrupted. What
it computes is `training.iterate`; what it adds is everything that touches a disk, a
clock or a signal.
"""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ppo_jax import checkpoint, metrics
from ppo_jax.config import Config, hyperparams
from ppo_jax.networks import actor_critic
from ppo_jax.ppo import PPO, make_ppo
from ppo_jax.training import init_run, iterate
from ppo_jax.types import Env, Hyperparams, RunState


class Trainer(NamedTuple):
    """What a configuration and its environments make: the algorithm, ready to run."""

    config: Config
    env: Env
    ppo: PPO
    hparams: Hyperparams  # of arrays: another value does not compile anew
    init: Callable[[jax.Array], RunState]  # jitted, (key)
    iterate: Callable[[RunState, Hyperparams], Any]  # jitted; the run is donated


class Progress(NamedTuple):
    """What is known after an iteration."""

    iteration: int  # done in total
    max_iterations: int
    env_steps: int  # in total
    seconds: float  # of this process, in the loop
    scalars: dict[str, float]


class Outcome(NamedTuple):
    """How a run ended."""

    run: RunState
    folder: Path
    progress: Progress | None  # None: there was nothing left to do
    stopped_by: str | None  # name of a signal
    solved_at: int | None  # iterations done when solved_return was first reached
    compile_seconds: float


class NotFinite(Exception):  # noqa: N818 - it is what it says
    """A NaN or inf turned up; the message says where, and what can be used."""


def make_trainer(config: Config, env: Env) -> Trainer:
    """Returns the algorithm for a configuration and its environments.

    Raises:
      ValueError: the configuration does not fit the environment.
    """
    network = actor_critic(
        env.action_space, config.actor, config.critic, config.obs_groups
    )
    ppo = make_ppo(network, config.algorithm)
    hparams = jax.tree.map(np.float32, hyperparams(config.algorithm))
    init = partial(
        init_run,
        ppo,
        env,
        hparams,
        init_at_random_ep_len=config.init_at_random_ep_len,
    )
    step = partial(iterate, ppo, env, config.num_steps_per_env)
    return Trainer(
        config, env, ppo, hparams, jax.jit(init), jax.jit(step, donate_argnums=0)
    )


def abstract_run(trainer: Trainer) -> RunState:
    """Returns the state of a run as shapes and types."""
    return jax.eval_shape(trainer.init, jax.random.key(trainer.config.seed))


def run_training(
    trainer: Trainer,
    folder: Path,
    run: RunState | None = None,
    seconds_before: float = 0.0,
    on_compiled: Callable[[float], None] = lambda seconds: None,
    on_iteration: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Trains until `max_iterations` are done, or until SIGINT or SIGTERM.

    Args:
      trainer: from `make_trainer`.
      folder: of the run; checkpoints and curves go there.
      run: to go on from; None starts with the configured seed.
      seconds_before: that the run has taken already, for the curves over time.
      on_compiled: called once with the seconds that compiling took.
      on_iteration: called after every iteration.

    Raises:
      NotFinite: a NaN or inf turned up in observations, rewards, losses or gradients.
    """
    config = trainer.config
    started = time.perf_counter()
    if run is None:
        run = trainer.init(jax.random.key(config.seed))
    step = trainer.iterate.lower(run, trainer.hparams).compile()  # type: ignore[attr-defined]
    compile_seconds = time.perf_counter() - started
    on_compiled(compile_seconds)

    first = int(run.train.iteration)
    writer = metrics.open_writer(folder, config.logger, first)
    steps_per_iteration = trainer.env.num_envs * config.num_steps_per_env
    progress, solved_at, saved_at = None, None, first if first else -1

    def save() -> None:
        nonlocal saved_at
        writer.flush()
        assert progress is not None
        seconds = seconds_before + progress.seconds
        checkpoint.save(folder, run, _meta(progress, seconds), config.keep_checkpoints)
        saved_at = progress.iteration

    started = time.perf_counter()
    with _signals() as received:
        for iteration in range(first, config.max_iterations):
            iteration_started = time.perf_counter()
            run, device_metrics = step(run, trainer.hparams)
            values = jax.device_get(device_metrics)
            _require_finite(values, iteration, folder, config.check_for_nan)
            now = time.perf_counter()
            scalars = _scalars(values)
            scalars["iteration_time"] = now - iteration_started
            scalars["steps_per_second"] = steps_per_iteration / (now - iteration_started)
            progress = Progress(
                iteration=iteration + 1,
                max_iterations=config.max_iterations,
                env_steps=(iteration + 1) * steps_per_iteration,
                seconds=now - started,
                scalars=scalars,
            )
            writer.write(iteration, scalars, seconds_before + progress.seconds)
            if solved_at is None and _is_solved(config, scalars):
                solved_at = iteration + 1
            on_iteration(progress)
            if received:
                break
            if (iteration + 1) % config.save_interval == 0:
                save()
        if progress is not None and saved_at != progress.iteration:
            save()
    writer.close()
    stopped_by = signal.Signals(received[0]).name if received else None
    return Outcome(run, folder, progress, stopped_by, solved_at, compile_seconds)


def _scalars(values: dict[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in values.items()
        if not name.startswith("nonfinite/")
    }


def _is_solved(config: Config, scalars: dict[str, float]) -> bool:
    goal = config.solved_return
    return goal is not None and scalars["episode_return"] >= goal


def _meta(progress: Progress, seconds: float) -> dict[str, Any]:
    episode_return = progress.scalars["episode_return"]
    return {
        "iteration": progress.iteration,
        "env_steps": progress.env_steps,
        "seconds": seconds,
        "episode_return": None if math.isnan(episode_return) else episode_return,
    }


def _require_finite(
    values: dict[str, Any], iteration: int, folder: Path, check_env: bool
) -> None:
    """Raises NotFinite where something is not, what came first in the step first."""
    found = None
    for name, envs in values.items():
        if check_env and name.startswith("nonfinite/") and envs[0] >= 0:
            named = [int(env) for env in envs if env >= 0]
            more = " and maybe more" if len(named) == len(envs) else ""
            quantity = name.removeprefix("nonfinite/")
            found = f"{quantity} of the environments {named}{more}"
            break
    if found is None:
        for name in ("surrogate_loss", "value_loss", "entropy", "kl", "loss"):
            if name in values and not np.isfinite(values[name]):
                found = name
                break
    if found is None:
        for name, value in values.items():
            if name.startswith("grad_norm") and not np.isfinite(value):
                found = f"the gradient ({name})"
    if found is None:
        return
    saved = checkpoint.iterations(folder)
    last = (
        f"The last good checkpoint is {folder / checkpoint.FOLDER / str(saved[-1])}."
        if saved
        else "There is no checkpoint yet: save_interval is larger than the iterations done."
    )
    raise NotFinite(
        f"iteration {iteration}: {found} became NaN or infinite; training stopped and "
        f"nothing of it was saved. {last}"
    )


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying; a second one acts as usual."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        previous = {number: signal.getsignal(number) for number in numbers}

        def remember(number: int, frame: Any) -> None:
            del frame
            received.append(number)
            for other in numbers:
                signal.signal(other, previous[other])

        for number in numbers:
            signal.signal(number, remember)
    except ValueError:  # not in the main thread: signals are somebody else's
        yield received
        return
    try:
        yield received
    finally:
        for number in numbers:
            signal.signal(number, previous[number])
