"""A training run on the host: the loop around the jitted iteration.

It saves, logs, watches for numbers that are not finite, and can be interrupted. What
it computes is `training.iterate`; what it adds is everything that touches a disk, a
clock or a signal.
"""

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppo_jax.learning.ppo import PPO, jitted, make_ppo
from ppo_jax.loops import evaluation
from ppo_jax.loops.rollout import host_scan
from ppo_jax.loops.training import init_run, iterate
from ppo_jax.runs import checkpoint, metrics
from ppo_jax.runs.config import Config, parts_of
from ppo_jax.types import Env, Hyperparams, Key, RunState, Simulator, TrainState


class Trainer(NamedTuple):
    """What a configuration and its environments make: the algorithm, ready to run."""

    config: Config
    env: Env
    ppo: PPO
    hparams: Hyperparams  # of arrays: another value does not compile anew
    init: jax.stages.Wrapped  # (key) -> RunState
    iterate: jax.stages.Wrapped  # (run, hparams) -> (run, metrics); donates the run

    @property
    def loops_on_host(self) -> bool:
        """Whether the env cannot be jitted: `init` and `iterate` then give shapes."""
        return isinstance(self.env, Simulator) and not self.env.is_traceable


class Progress(NamedTuple):
    """What is known after an iteration."""

    iteration: int  # done in total
    max_iterations: int
    env_steps: int  # in total
    seconds: float  # of this process, in the loop
    seconds_left: float  # if it goes on as it did
    scalars: dict[str, float]


class Outcome(NamedTuple):
    """How a run ended."""

    run: RunState
    folder: Path
    progress: Progress
    stopped_by: str | None  # name of a signal


# what an update reports: how a message names it
_LEARNING = {
    "surrogate_loss": "the surrogate loss",
    "value_loss": "the value loss",
    "entropy": "the entropy",
    "kl": "the KL",
    "loss": "the loss",
    "grad_norm_actor": "the gradient of the actor",
    "grad_norm_critic": "the gradient of the critic",
}


class NotFinite(Exception):
    """A NaN or inf turned up; the message says where, and what can be used."""


def make_trainer(config: Config, env: Env) -> Trainer:
    """Returns the algorithm for a configuration and its environments."""
    network, ppo_config, hparams = parts_of(config, env.action_space)
    ppo = make_ppo(network, ppo_config)
    hparams = jax.tree.map(jnp.float32, hparams)
    traced = env.traceable() if isinstance(env, Simulator) else env
    init = partial(
        init_run,
        ppo,
        traced,
        hparams,
        init_at_random_ep_len=config.init_at_random_ep_len,
    )
    step = partial(iterate, ppo, traced, config.num_steps_per_env)
    return Trainer(
        config, env, ppo, hparams, jax.jit(init), jax.jit(step, donate_argnums=0)
    )


def start(trainer: Trainer, key: Key | None = None) -> RunState:
    """Returns a run before its first iteration; the configured seed without a key."""
    if key is None:
        key = jax.random.key(trainer.config.seed)
    if not trainer.loops_on_host:
        with simulator_errors(trainer.env):
            return jax.block_until_ready(trainer.init(key))
    at_random = trainer.config.init_at_random_ep_len
    return init_run(jitted(trainer.ppo), trainer.env, trainer.hparams, key, at_random)


def saved_part(trainer: Trainer, run: RunState) -> RunState:
    """Returns what a checkpoint holds: all, but not what only a simulator knows."""
    return without_simulator(run) if isinstance(trainer.env, Simulator) else run


def without_simulator(run: RunState) -> RunState:
    """Returns what of a run, or of many, outlives its simulator."""
    episodes = run.episodes._replace(episode_return=(), episode_length=())
    return run._replace(env_state=(), obs={}, episodes=episodes)


def with_simulator(saved: RunState, fresh: RunState) -> RunState:
    """Returns what `without_simulator` gave, with the episodes of a fresh start."""
    episodes = saved.episodes._replace(
        episode_return=fresh.episodes.episode_return,
        episode_length=fresh.episodes.episode_length,
    )
    return saved._replace(env_state=fresh.env_state, obs=fresh.obs, episodes=episodes)


def resume(trainer: Trainer, saved: RunState) -> RunState:
    """Returns a run that goes on from what `saved_part` kept.

    A simulator starts its episodes anew, and not with those that the run began with.
    """
    if not isinstance(trainer.env, Simulator):
        return saved
    seed = jax.random.key(trainer.config.seed)
    fresh = start(trainer, jax.random.fold_in(seed, saved.train.iteration))
    return with_simulator(saved, fresh)


def abstract_run(trainer: Trainer) -> RunState:
    """Returns the state of a run as shapes and types.

    Raises:
      ValueError: the configuration does not fit the environment.
    """
    return jax.eval_shape(trainer.init, jax.random.key(trainer.config.seed))


def lower(trainer: Trainer) -> jax.stages.Lowered:
    """Returns one iteration, traced but not compiled; a second call costs nothing.

    Raises:
      ValueError: the configuration does not fit the environment.
    """
    return trainer.iterate.lower(abstract_run(trainer), trainer.hparams)


def run_training(
    trainer: Trainer,
    folder: Path,
    run: RunState | None = None,
    seconds_before: float = 0.0,
    on_compiled: Callable[[], None] = lambda: None,
    on_iteration: Callable[[Progress], None] = lambda progress: None,
    on_signal: Callable[[str], None] = lambda name: None,
) -> Outcome:
    """Trains until `max_iterations` are done, or until SIGINT or SIGTERM.

    Curves and checkpoints in the folder that are newer than the run are of another
    continuation: the curves are cut there, the checkpoints set aside.

    Args:
      trainer: from `make_trainer`.
      folder: of the run; checkpoints and curves go there.
      run: to go on from, it is donated; None starts with the configured seed.
      seconds_before: that the run has taken already, for the curves over time.
      on_compiled: called once, before the first iteration.
      on_iteration: called after every iteration.
      on_signal: called with the signal's name after the iteration in which it came,
        before the last checkpoint is written. A second signal acts as usual.

    Raises:
      NotFinite: a NaN or inf turned up in observations, rewards, losses or gradients.
      ValueError: the run has done `max_iterations` already.
    """
    config = trainer.config
    step, first_run = _compile(trainer, run)
    on_compiled()
    first, progress, stop = int(first_run.train.iteration), None, False
    checkpoint.set_aside(folder, after=first)
    writer = metrics.open_writer(folder, config.logger, first)
    with _signals() as received:
        try:
            for run, progress in _iterations(trainer, step, first_run, folder):
                done, seconds = progress.iteration, seconds_before + progress.seconds
                writer.write(done - 1, progress.scalars, seconds)
                on_iteration(progress)
                stop = bool(received) and done < config.max_iterations
                if stop:
                    on_signal(signal.Signals(received[0]).name)
                is_last = stop or done == config.max_iterations
                if is_last or done % config.save_interval == 0:
                    _save(trainer, folder, run, progress, seconds)
                if stop:
                    break
        finally:
            writer.close()
    if run is None or progress is None:
        raise ValueError(f"{folder} has already done {first} iterations: ask for more")
    stopped_by = signal.Signals(received[0]).name if stop else None
    return Outcome(run, folder, progress, stopped_by)


def is_finite(values: Mapping[str, Any], check_env: bool) -> np.ndarray:
    """Returns where all that was learned is finite, and what the environments gave.

    Args:
      values: metrics of `iterate`, each with the same leading axes.
      check_env: look at observations and rewards as well.
    """
    finite = [np.isfinite(values[name]) for name in _LEARNING if name in values]
    if check_env:
        named = [x for name, x in values.items() if name.startswith("nonfinite/")]
        finite += [np.asarray(x)[..., 0] < 0 for x in named]
    return np.logical_and.reduce(finite)


def simulator_errors(env: Env) -> AbstractContextManager[None]:
    """Re-raises what a simulator raised in a program; to be put around its calls."""
    return env.errors() if isinstance(env, Simulator) else nullcontext()


def evaluate(
    trainer: Trainer, state: TrainState, key: Key
) -> tuple[evaluation.Evaluation, dict[str, float]]:
    """Plays an episode in every environment with the deterministic policy.

    Returns:
      How they went, and {tag: mean} of what a simulator logged meanwhile.
    """
    env = trainer.env
    if trainer.loops_on_host:
        ppo = jitted(trainer.ppo)
        result = evaluation.evaluate(ppo, env, state, key, scan=host_scan)
    else:
        play = jax.jit(evaluation.evaluate, static_argnums=(0, 1))
        with simulator_errors(env):
            result = jax.block_until_ready(play(trainer.ppo, env, state, key))
    return result, env.drain_log() if isinstance(env, Simulator) else {}


def _compile(trainer: Trainer, run: RunState | None) -> tuple[Any, RunState]:
    """Returns one iteration as a function, and the run to start from.

    A program is compiled while the run is made. A loop on the host compiles its parts
    when it first comes to them.
    """
    lowered = lower(trainer)
    if trainer.loops_on_host:
        num_steps = trainer.config.num_steps_per_env
        step = partial(
            iterate, jitted(trainer.ppo), trainer.env, num_steps, scan=host_scan
        )
        return step, run or start(trainer)
    with ThreadPoolExecutor(1) as other_thread:
        compiled = other_thread.submit(lowered.compile)
        run = run or start(trainer)
        return compiled.result(), run


def _iterations(
    trainer: Trainer, step: Callable[..., Any], run: RunState, folder: Path
) -> Iterator[tuple[RunState, Progress]]:
    """Yields the run after each iteration, and what is known then.

    Raises:
      NotFinite: something in the iteration was not finite.
    """
    config, first = trainer.config, int(run.train.iteration)
    num_steps = trainer.env.num_envs * config.num_steps_per_env
    started = time.perf_counter()
    for done in range(first + 1, config.max_iterations + 1):
        begun = time.perf_counter()
        with simulator_errors(trainer.env):
            run, values = step(run, trainer.hparams)
            values = jax.device_get(values)
        values |= _simulator_log(trainer.env)
        _require_finite(values, done, folder, config.check_for_nan)
        now = time.perf_counter()
        seconds, duration = now - started, now - begun
        speed = {"iteration_time": duration, "steps_per_second": num_steps / duration}
        progress = Progress(
            iteration=done,
            max_iterations=config.max_iterations,
            env_steps=done * num_steps,
            seconds=seconds,
            seconds_left=seconds / (done - first) * (config.max_iterations - done),
            scalars=_scalars(values) | speed,
        )
        yield run, progress


def _simulator_log(env: Env) -> dict[str, float]:
    if not isinstance(env, Simulator):
        return {}
    return {f"log/{tag}": value for tag, value in env.drain_log().items()}


def _save(
    trainer: Trainer, folder: Path, run: RunState, progress: Progress, seconds: float
) -> None:
    run, meta = saved_part(trainer, run), _meta(progress, seconds)
    try:
        checkpoint.save(folder, run, meta, trainer.config.keep_checkpoints)
    except checkpoint.NotFinite as error:
        raise _not_finite(folder, progress.iteration, error.path) from None


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


def _require_finite(
    values: dict[str, Any], iteration: int, folder: Path, check_env: bool
) -> None:
    """Raises NotFinite where something is not; what came from the environment first."""
    for name, envs in values.items():
        if check_env and name.startswith("nonfinite/") and envs[0] >= 0:
            named = [int(env) for env in envs if env >= 0]
            more = " and maybe more" if len(named) == len(envs) else ""
            what = (
                f"{name.removeprefix('nonfinite/')} of the environments {named}{more}"
            )
            raise _not_finite(folder, iteration, what)
    bad = [
        words
        for name, words in _LEARNING.items()
        if not np.isfinite(values.get(name, 0))
    ]
    if bad:
        raise _not_finite(folder, iteration, " and ".join(bad))


def _not_finite(folder: Path, iteration: int, what: str) -> NotFinite:
    saved = checkpoint.iterations(folder)
    last = (
        f"The last good checkpoint is {checkpoint.path_of(folder, saved[-1])}."
        if saved
        else "There is no checkpoint yet: give a smaller save_interval to have one."
    )
    return NotFinite(
        f"in iteration {iteration} {what} became NaN or infinite; training stopped and "
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
