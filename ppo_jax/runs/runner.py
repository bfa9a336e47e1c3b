"""A training run on the host: the loop around the jitted iteration.

It saves, logs, watches for numbers that are not finite, and can be interrupted. What
it computes is `training.iterate`; what it adds is everything that touches a disk, a
clock or a signal.
"""

import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import jax

from ppo_jax.loops.episodes import with_gaps
from ppo_jax.loops.programs import simulator_errors
from ppo_jax.loops.trail import Trail
from ppo_jax.runs import (
    checkpoint,
    devices,
    finite,
    folders,
    lock,
    metrics,
    processes,
    profiling,
    signals,
    storage,
)
from ppo_jax.runs.callbacks import Callbacks, Outcome, Progress
from ppo_jax.runs.continuation import about_simulator, saved_part
from ppo_jax.runs.curves import Curves, open_curves
from ppo_jax.runs.loggers import names as loggers
from ppo_jax.runs.trainers import Trainer, lower, start, step_on_host
from ppo_jax.types import Env, RunState, Simulator


def run_training(
    trainer: Trainer,
    folder: Path,
    run: RunState | None = None,
    seconds_before: float = 0.0,
    callbacks: Callbacks = Callbacks(),
    profile: int = 0,
) -> Outcome:
    """Trains until `max_iterations` are done, or until SIGINT or SIGTERM.

    Curves and checkpoints in the folder that are newer than the run are of another
    continuation: the curves are cut there, the checkpoints set aside. The configuration
    is written with the first checkpoint, when the run has gone on with it.

    Args:
      trainer: from `make_trainer`.
      folder: of the run; checkpoints and curves go there.
      run: to go on from, it is donated; None starts with the configured seed.
      seconds_before: that the run has taken already, for the curves over time.
      callbacks: what is called on the way.
      profile: iterations to trace, see `profiling.traced`.

    Raises:
      NotFinite: a NaN or inf turned up in observations, rewards, losses or gradients.
      Diverged: what is learned is not the same on all devices.
      Unwritable: the folder is gone or its disk full.
      Held: another process has the folder.
      ValueError: the run has done `max_iterations` already, its table is damaged, or
        a logger cannot be used.
    """
    config = trainer.config
    with processes.in_first(partial(_held, folder)):
        if run is not None:  # damage is found before anything is compiled
            processes.agree(partial(metrics.check_table, folder))
        others = loggers.beside(config.logger)
        step, first_run = _compile(trainer, run)
        callbacks.on_compiled()
        first = int(first_run.train.iteration)
        if first >= config.max_iterations:
            raise ValueError(
                f"{folder} has already done {first} iterations: ask for more"
            )
        on_note = callbacks.on_note
        opened = partial(open_curves, folder, config, others, first, on_note)
        with processes.in_first(opened) as curves:
            iterations = _iterations(trainer, step, first_run, folder, callbacks.on_nan)
            iterations = profiling.traced(iterations, folder, profile, on_note)
            outcome = _until_the_end(
                trainer, folder, iterations, curves, seconds_before, callbacks
            )
            callbacks.on_end(outcome)
    return outcome


def _held(folder: Path) -> AbstractContextManager[None]:
    folder.mkdir(parents=True, exist_ok=True)
    return lock.held(folder)


def _until_the_end(
    trainer: Trainer,
    folder: Path,
    iterations: Iterator[tuple[RunState, Progress]],
    curves: Curves | None,
    seconds_before: float,
    callbacks: Callbacks,
) -> Outcome:
    """Writes and saves what each iteration gives, until the last or a signal."""
    config, record = trainer.config, partial(folders.record, folder, trainer.config)
    outcome = None
    with signals.collected() as received:
        for run, progress in iterations:
            done, seconds = progress.iteration, seconds_before + progress.seconds
            if curves:
                curves.write(done - 1, progress.scalars, seconds)
            callbacks.on_iteration(progress)
            callbacks.on_learned(done, devices.here(trainer.mesh, run.train))
            number = processes.most(received[0] if received else 0)
            stop = bool(number) and done < config.max_iterations
            if stop:
                callbacks.on_signal(signal.Signals(number).name)
            is_last = stop or done == config.max_iterations
            if is_last or done % config.save_interval == 0:
                path = _save(trainer, folder, run, progress, seconds, record)
                if curves:
                    curves.save_model(path, done - 1)
                record = None
            if is_last:
                stopped_by = signal.Signals(number).name if stop else None
                run = run._replace(train=devices.here(trainer.mesh, run.train))
                outcome = Outcome(run, folder, progress, stopped_by)
            if stop:
                break
    assert outcome is not None  # there is an iteration to do
    return outcome


def _compile(trainer: Trainer, run: RunState | None) -> tuple[Any, RunState]:
    """Returns one iteration as a function, and the run to start from.

    A program is compiled while the run is made. A loop on the host compiles its parts
    when it first comes to them.
    """
    lowered = lower(trainer)
    run = devices.place(trainer.mesh, run) if run else None
    if trainer.loops_on_host:
        return step_on_host(trainer), run or start(trainer)
    with ThreadPoolExecutor(1) as other_thread:
        compiled = other_thread.submit(lowered.compile)
        run = run or start(trainer)
        return compiled.result(), run


def _iterations(
    trainer: Trainer,
    step: Callable[..., Any],
    run: RunState,
    folder: Path,
    on_nan: Callable[[finite.NotFinite, list[Trail], RunState], str],
) -> Iterator[tuple[RunState, Progress]]:
    """Yields the run after each iteration, and what is known then.

    Raises:
      NotFinite: something in the iteration was not finite.
    """
    config, first = trainer.config, int(run.train.iteration)
    num_steps = trainer.num_envs * config.num_steps_per_env
    started, collected = time.perf_counter(), []
    trails: deque[Trail] = deque(maxlen=2)
    if trainer.loops_on_host:  # what is one program cannot be told apart
        step = partial(step, on_collected=lambda: collected.append(time.perf_counter()))
    for done in range(first + 1, config.max_iterations + 1):
        begun = time.perf_counter()
        with (
            processes.together(),
            simulator_errors(trainer.env, config.num_steps_per_env),
            jax.profiler.StepTraceAnnotation("iteration", step_num=done),
        ):
            run, values = step(run, trainer.hparams)
            if "trail" in values:
                trails.append(values.pop("trail"))
            values = with_gaps(values)
        values |= _simulator_log(trainer.env)
        try:
            finite.require_finite(values, done, folder, config.check_for_nan)
        except finite.NotFinite as error:
            more = on_nan(error, list(trails), run) if error.envs else ""
            raise finite.NotFinite(f"{error} {more}".rstrip()) from None
        speed = _speed(num_steps, begun, collected)
        seconds = time.perf_counter() - started
        progress = Progress(
            iteration=done,
            max_iterations=config.max_iterations,
            env_steps=done * num_steps,
            seconds=seconds,
            seconds_left=seconds / (done - first) * (config.max_iterations - done),
            scalars=_scalars(values) | speed,
        )
        yield run, progress


def _speed(num_steps: int, begun: float, collected: list[float]) -> dict[str, float]:
    """Returns what an iteration took; `collected`, when its rollout ended, is used."""
    duration = time.perf_counter() - begun
    speed = {"iteration_time": duration, "steps_per_second": num_steps / duration}
    if collected:
        speed["collection_time"] = collected.pop() - begun
        speed["learning_time"] = duration - speed["collection_time"]
    return speed


def _simulator_log(env: Env) -> dict[str, float]:
    if not isinstance(env, Simulator):
        return {}
    logs = processes.values_of_all(env.drain_log())
    values = {
        tag: [log[tag] for log in logs if tag in log] for log in logs for tag in log
    }
    return {f"log/{tag}": sum(x) / len(x) for tag, x in values.items()}


def _save(
    trainer: Trainer,
    folder: Path,
    run: RunState,
    progress: Progress,
    seconds: float,
    record: Callable[[], None] | None,
) -> Path:
    devices.require_equal(trainer.mesh, run.train)
    run = devices.whole(trainer.mesh, saved_part(trainer, run))
    meta = _meta(progress, seconds) | about_simulator(trainer.env)
    if trainer.mesh:
        meta["shards"] = devices.size(trainer.mesh)

    def write() -> str:
        on_written, keep = record or (lambda: None), trainer.config.keep_checkpoints
        try:
            with storage.writing(folder):
                return str(checkpoint.save(folder, run, meta, keep, on_written))
        except checkpoint.NotFinite as error:
            raise finite.not_finite(folder, progress.iteration, error.path) from None

    return Path(processes.agree(write))


def _scalars(values: dict[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in values.items()
        if not name.startswith("nonfinite/")
    }


def _meta(progress: Progress, seconds: float) -> dict[str, Any]:
    episode_return = progress.scalars["episode_return"]
    return {
        "iteration": progress.iteration,
        "env_steps": progress.env_steps,
        "seconds": seconds,
        "episode_return": None if math.isnan(episode_return) else episode_return,
    }
