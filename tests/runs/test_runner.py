"""The loop on the host: when it saves, what stops it, and that it compiles once."""

import functools
import os
import shutil
import signal
import subprocess
import threading
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import running
from compilations import Compilations

from ppo_jax import Continuous, Env, EnvInfo, TimeStep, actor_critic
from ppo_jax.cli import train
from ppo_jax.compiling import Program
from ppo_jax.learning.losses import ppo_loss
from ppo_jax.learning.ppo import make_ppo
from ppo_jax.loops.training import iterate
from ppo_jax.policies.models import ModelConfig
from ppo_jax.runs import (
    checkpoint,
    finite,
    folders,
    lock,
    metrics,
    runner,
    storage,
    trainers,
)
from ppo_jax.runs.callbacks import Callbacks
from ppo_jax.runs.config import AlgorithmConfig, Config

NUM_STEPS = 4
FAULTY = np.array([False, True, False, True])  # environments 1 and 3


class Fault(NamedTuple):
    """What breaks, and in which step; part of the state, so that nothing recompiles."""

    reward: Any = 0.0  # added to the reward
    obs: Any = 0.0  # added to the observation
    step: Any = 0  # counted from 1


class CounterState(NamedTuple):
    """Steps of each episode, steps of all, and what is to break."""

    count: Any
    step: Any
    fault: Fault


@dataclass(frozen=True)
class Counter(Env):
    """Four environments that count their steps."""

    info = EnvInfo(4, Continuous(1), max_episode_length=6, step_dt=0.1)

    def reset(self, key):
        fault = Fault(jnp.float32(0), jnp.float32(0), jnp.int32(0))
        count = jnp.zeros(self.num_envs, jnp.int32)
        return CounterState(count, jnp.int32(0), fault), self._obs(count, 0.0)

    def step(self, env_state, action):
        count, step, fault = env_state
        step, count = step + 1, count + 1
        broken = FAULTY & (step == fault.step)
        truncated = count >= self.max_episode_length
        count = jnp.where(truncated, 0, count)
        timestep = TimeStep(
            obs=self._obs(count, jnp.where(broken, fault.obs, 0.0)),
            reward=-jnp.abs(action[:, 0]) + jnp.where(broken, fault.reward, 0.0),
            terminated=jnp.zeros(self.num_envs, bool),
            truncated=truncated,
            final_obs=None,
            log={},
        )
        return CounterState(count, step, fault), timestep

    def randomize_episode_length(self, env_state, key):
        return env_state

    def _obs(self, count, added):
        return {"policy": jnp.stack([jnp.sin(count), jnp.cos(count) + added], axis=-1)}


MODEL = ModelConfig(hidden_dims=(4,))
CONFIG = Config(
    task="Counter",
    num_envs=4,
    num_steps_per_env=NUM_STEPS,
    max_iterations=6,
    logger="none",
    actor=MODEL,
    critic=MODEL,
    # one gradient step an iteration: a loss is measured before anything has moved
    algorithm=AlgorithmConfig(num_learning_epochs=1, num_mini_batches=1),
)


@functools.cache
def compiled_trainer():
    """One trainer for all tests: a program is compiled once per trainer."""
    return trainers.make_trainer(CONFIG, Counter())


def make_trainer(**changes):
    """The same program with other settings of the loop."""
    return compiled_trainer()._replace(config=replace(CONFIG, **changes))


def start(fault=None, learning_rate=1e-3):
    """A run at its beginning, with something that is going to break."""
    run = compiled_trainer().init(jax.random.key(CONFIG.seed))
    if fault:
        fault = jax.tree.map(jnp.asarray, fault)
        run = run._replace(env_state=run.env_state._replace(fault=fault))
    learning_rate = jnp.float32(learning_rate)
    return run._replace(train=run.train._replace(learning_rate=learning_rate))


def train_counter(folder, run=None, callbacks=None, **changes):
    callbacks = Callbacks(**(callbacks or {}))
    return runner.run_training(
        make_trainer(**changes), folder, run, callbacks=callbacks
    )


def learned(outcome):
    return jax.device_get(outcome.run.train)


# The run breaks in its second iteration: steps 5 to 8.
@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("quantity", "step", "words"),
    [
        ("reward", 5, "reward of the environments [1, 3]"),
        ("reward", 8, "reward of the environments [1, 3]"),
        ("obs", 6, "obs['policy'] of the environments [1, 3]"),
    ],
)
def test_environment_that_breaks_stops_the_run(tmp_path, quantity, step, words, value):
    """Iteration, quantity, environments and the last good checkpoint are named."""
    fault = Fault(step=step)._replace(**{quantity: value})
    with pytest.raises(finite.NotFinite) as error:
        train_counter(tmp_path, start(fault), save_interval=1)
    sentence = str(error.value)
    assert f"in iteration 2 {words} became NaN or infinite" in sentence
    assert f"last good checkpoint is {tmp_path / 'checkpoints' / '1'}." in sentence
    assert checkpoint.iterations(tmp_path) == [1]
    assert metrics.read_table(tmp_path)["iteration"] == [0]


@pytest.mark.slow
def test_observation_that_breaks_in_the_last_step_is_not_saved(tmp_path):
    """Step 8 ends iteration 2; what it observes is acted on in iteration 3."""
    run = start(Fault(obs=np.nan, step=8))
    with pytest.raises(finite.NotFinite, match=r"in iteration 2 .*/checkpoints/1\."):
        train_counter(tmp_path, run, save_interval=1)
    assert checkpoint.iterations(tmp_path) == [1]


@pytest.mark.slow
def test_unchecked_environment_still_cannot_spoil_what_is_learned(tmp_path):
    """`check_for_nan = False` lets observations pass, but no loss that is NaN."""
    run = start(Fault(reward=np.nan, step=5))
    with pytest.raises(finite.NotFinite, match=r"in iteration 2 the .* loss"):
        train_counter(tmp_path, run, save_interval=1, check_for_nan=False)
    assert checkpoint.iterations(tmp_path) == [1]


def test_loss_that_breaks_stops_the_run(tmp_path):
    """An infinite loss is named, and so is the gradient that it gave."""
    trainer = make_trainer(save_interval=1)
    hparams = trainer.hparams._replace(value_loss_coef=np.float32(np.inf))
    with pytest.raises(
        finite.NotFinite, match=r"iteration 1 the loss and the gradient"
    ):
        runner.run_training(trainer._replace(hparams=hparams), tmp_path)
    assert checkpoint.iterations(tmp_path) == []


def loss_without_gradient(params, network, batch, hparams):
    """ppo_loss with a term that is 0 and whose gradient is NaN."""
    loss, reported = ppo_loss(params, network, batch, hparams)
    zero = 0.0 * jnp.sum(params["actor"]["head"]["mean"]["bias"] ** 2)
    return loss + jnp.sqrt(zero), reported  # d sqrt(0) = inf, times 0: NaN


@pytest.mark.slow
def test_gradient_that_breaks_stops_the_run(tmp_path):
    """All losses are finite, the gradient is not: it is named, nothing is saved."""
    trainer, env = make_trainer(save_interval=1), Counter()
    network = actor_critic(env.action_space, MODEL, MODEL)
    ppo = make_ppo(network, CONFIG.algorithm, loss_without_gradient)
    step = jax.jit(partial(iterate, ppo, env, NUM_STEPS), donate_argnums=0)
    with pytest.raises(finite.NotFinite) as error:
        runner.run_training(trainer._replace(iterate=step), tmp_path)
    assert "in iteration 1 the gradient of the actor became NaN" in str(error.value)
    assert "There is no checkpoint yet" in str(error.value)
    assert checkpoint.iterations(tmp_path) == []


def test_parameter_that_breaks_is_not_saved(tmp_path):
    """A learning rate beyond float32: losses are fine, the weights after them not."""
    run = start(learning_rate=np.inf)
    with pytest.raises(finite.NotFinite, match=r"in iteration 1 .*NaN or infinite"):
        train_counter(tmp_path, run, save_interval=1)
    assert checkpoint.iterations(tmp_path) == []


@pytest.mark.slow
def test_train_exits_with_1_when_numbers_break(tmp_path, monkeypatch, capsys):
    """train.py: one sentence on stderr, exit code 1, no traceback."""
    run = start(Fault(reward=np.nan, step=5))
    trainer = make_trainer()._replace(init=Program(lambda key: run))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "open_trainer", lambda _, **how: nullcontext(trainer))
    assert running.call(train, *running.TINY, "--logger=none") == 1
    _, err = capsys.readouterr()
    assert err.startswith("train.py: in iteration 2 reward of the environments [1, 3]")
    assert err.count("\n") == 1


def test_saves_at_every_interval_and_at_the_end(tmp_path):
    """Of 7 iterations with an interval of 3, those after 3, 6 and 7."""
    saved = []
    train_counter(
        tmp_path,
        max_iterations=7,
        save_interval=3,
        keep_checkpoints=9,
        callbacks={
            "on_iteration": lambda p: saved.append(checkpoint.iterations(tmp_path))
        },
    )
    assert saved == [[], [], [], [3], [3], [3], [3, 6]]
    assert checkpoint.iterations(tmp_path) == [3, 6, 7]


def test_best_checkpoint_survives_a_resume(tmp_path):
    """The best so far is known again after a restart, and kept."""
    outcome = train_counter(tmp_path, keep_checkpoints=1, save_interval=1)
    table = metrics.read_table(tmp_path)["episode_return"]
    best = int(np.nanargmax(table)) + 1
    assert checkpoint.best_iteration(tmp_path) == best
    assert checkpoint.iterations(tmp_path) == sorted({best, 6})
    worse = -1e6 * jnp.ones_like(outcome.run.episodes.recent_return)
    episodes = outcome.run.episodes._replace(recent_return=worse)
    train_counter(
        tmp_path,
        run=outcome.run._replace(episodes=episodes),
        keep_checkpoints=1,
        save_interval=1,
        max_iterations=8,
    )
    assert checkpoint.iterations(tmp_path) == sorted({best, 8})


def test_run_in_two_parts_is_the_run_in_one(tmp_path):
    """6 iterations = 3 + a restore + 3: everything equal, bit for bit."""
    whole = train_counter(tmp_path / "whole")
    train_counter(tmp_path / "parts", max_iterations=3)
    trainer = make_trainer()
    template = trainers.abstract_run(trainer)
    restored = checkpoint.restore_run(tmp_path / "parts", template)
    parts = runner.run_training(trainer, tmp_path / "parts", restored.state)
    jax.tree.map(np.testing.assert_array_equal, learned(whole), learned(parts))


def test_checkpoints_of_another_continuation_are_set_aside(tmp_path):
    """Going on from 2 where 4 is there: 4 moves away, the curves are cut at 2."""
    train_counter(tmp_path, max_iterations=2)
    trainer = make_trainer()
    early = checkpoint.restore_run(tmp_path, trainers.abstract_run(trainer)).state
    train_counter(tmp_path, run=jax.tree.map(jnp.copy, early), max_iterations=4)
    train_counter(tmp_path, run=early, max_iterations=3)
    assert checkpoint.iterations(tmp_path) == [2, 3]
    assert (tmp_path / checkpoint.SET_ASIDE / "4").is_dir()
    assert metrics.read_table(tmp_path)["iteration"] == [0, 1, 2]


def test_a_run_that_is_done_is_an_error(tmp_path):
    """There is nothing to report of no iterations."""
    outcome = train_counter(tmp_path)
    with pytest.raises(ValueError, match="already done 6 iterations"):
        train_counter(tmp_path, run=outcome.run)


def test_progress_counts_and_estimates(tmp_path):
    """Iterations done, environment steps, and the time that is left."""
    seen = []
    train_counter(tmp_path, callbacks={"on_iteration": seen.append})
    assert [p.iteration for p in seen] == [1, 2, 3, 4, 5, 6]
    assert [p.env_steps for p in seen] == [16, 32, 48, 64, 80, 96]
    assert seen[-1].seconds_left == 0.0
    assert seen[1].seconds_left == pytest.approx(seen[1].seconds / 2 * 4)
    assert all(p.scalars["steps_per_second"] > 0 for p in seen)
    assert not any(name.startswith("nonfinite") for name in seen[0].scalars)


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk cannot be mounted here: {error}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(disk, leaving=0):
    """Fills a disk but for some bytes."""
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    with (disk / "filler").open("r+b") as file:
        file.truncate((disk / "filler").stat().st_size - leaving)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("leaving", "logger"),
    [(0, "tensorboard"), (0, "none"), (8192, "tensorboard"), (40_000, "none")],
)
def test_a_full_disk_is_one_sentence(small_disk, capfd, leaving, logger):
    """Curves or checkpoint, whatever first finds no room; the last one is whole.

    8 kB hold some curves, 40 kB a part of a checkpoint.
    """
    run = small_disk / "run"
    hit = lambda p: fill(small_disk, leaving) if p.iteration == 2 else None
    with pytest.raises(storage.Unwritable) as error:
        train_counter(
            run,
            save_interval=1,
            max_iterations=10_000,
            keep_checkpoints=99,
            logger=logger,
            callbacks={"on_iteration": hit},
        )
    sentence = str(error.value)
    assert sentence.startswith(f"the disk of {run} is full (")
    last = checkpoint.iterations(run)[-1]
    assert sentence.endswith(f"The last good checkpoint is {run}/checkpoints/{last}.")
    assert capfd.readouterr() == ("", "")
    assert not list((run / checkpoint.FOLDER).glob(".*"))
    template = trainers.abstract_run(make_trainer())
    assert checkpoint.restore_run(run, template).iteration == last


@pytest.mark.parametrize("logger", ["tensorboard", "none"])
def test_a_folder_that_is_gone_ends_the_run_at_the_next_save(tmp_path, logger):
    """Deleted or moved while it was trained: said, and not made anew."""
    run = tmp_path / "run"
    for take in (shutil.rmtree, lambda path: path.rename(tmp_path / "elsewhere")):
        seen = []

        def hit(progress, take=take, seen=seen):
            seen.append(progress.iteration)
            if progress.iteration == 2:
                take(run)

        with pytest.raises(storage.Unwritable, match=f"{run} is gone: it was deleted"):
            train_counter(
                run, save_interval=4, logger=logger, callbacks={"on_iteration": hit}
            )
        assert seen == [1, 2, 3, 4]
        assert not run.exists()


def test_a_run_that_is_held_is_not_trained(tmp_path):
    """The loop holds the folder while it writes, and frees it at its end."""
    refused = []

    def other():
        with pytest.raises(lock.Held) as error:
            train_counter(tmp_path)
        refused.append(str(error.value))

    def hit(progress):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    train_counter(tmp_path, max_iterations=1, callbacks={"on_iteration": hit})
    assert "is held by another process" in refused[0]
    train_counter(tmp_path, max_iterations=1)


def test_a_damaged_table_is_found_before_anything_is_compiled(tmp_path):
    """And not after hours: nothing is trained, nothing is cut."""
    outcome = train_counter(tmp_path, max_iterations=2)
    path = tmp_path / metrics.TABLE
    path.write_text(path.read_text().replace("\n1,", "\nx,"))
    compiled = []
    callbacks = {"on_compiled": lambda: compiled.append(True)}
    with pytest.raises(ValueError, match=r"metrics.csv is damaged: line 3 begins"):
        train_counter(tmp_path, run=outcome.run, callbacks=callbacks)
    assert not compiled


def test_the_configuration_is_written_with_the_first_checkpoint(tmp_path):
    """And not by a run that breaks before."""
    train_counter(tmp_path, max_iterations=2)
    before = folders.load_config(tmp_path)
    assert before.max_iterations == 2
    changes = {"save_interval": 1, "max_iterations": 5}
    with pytest.raises(finite.NotFinite):
        train_counter(tmp_path, run=start(learning_rate=np.inf), **changes)
    assert folders.load_config(tmp_path) == before
    train_counter(tmp_path, **changes)
    assert folders.load_config(tmp_path).max_iterations == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_finishes_the_iteration_and_saves(tmp_path, number):
    """After the signal: this iteration, a checkpoint, and the old handlers again."""
    before, named = signal.getsignal(number), []

    def hit(progress):
        if progress.iteration == 2:
            os.kill(os.getpid(), number)

    callbacks = {"on_iteration": hit, "on_signal": named.append}
    outcome = train_counter(tmp_path, callbacks=callbacks)
    assert outcome.stopped_by == number.name
    assert named == [number.name]
    assert outcome.progress.iteration == 2
    assert checkpoint.iterations(tmp_path) == [2]
    assert signal.getsignal(number) is before


def test_second_ctrl_c_acts_as_usual(tmp_path):
    """While the last checkpoint is written, another SIGINT is a KeyboardInterrupt."""
    # To this thread: one to the process may reach another, and this one a moment later,
    # where an exception has no way out of a finaliser that runs just then.
    interrupt = lambda *args: signal.raise_signal(signal.SIGINT)
    callbacks = {"on_iteration": interrupt, "on_signal": interrupt}
    with pytest.raises(KeyboardInterrupt):
        train_counter(tmp_path, callbacks=callbacks)
    assert checkpoint.iterations(tmp_path) == []


def test_signal_in_the_last_iteration_ends_a_complete_run(tmp_path):
    """There is nothing left to resume, so nothing says so."""
    hit = lambda p: os.kill(os.getpid(), signal.SIGINT) if p.iteration == 6 else None
    outcome = train_counter(tmp_path, callbacks={"on_iteration": hit})
    assert outcome.stopped_by is None
    assert checkpoint.iterations(tmp_path) == [6]


def test_trains_outside_the_main_thread(tmp_path):
    """Signals belong to the main thread; a run elsewhere leaves them alone."""
    outcomes = []
    work = lambda: outcomes.append(train_counter(tmp_path, max_iterations=2))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert outcomes[0].progress.iteration == 2


@pytest.mark.slow
def test_a_real_run_compiles_its_programs_once(tmp_path, monkeypatch):
    """train.py traces and compiles an iteration once, and once more in a resume."""
    monkeypatch.chdir(tmp_path)
    argv = ("--logger=none", "save_interval=2")
    with Compilations() as first:
        assert running.call(train, *running.TINY, *argv, "--max_iterations=3") == 0
    assert first.of("iterate") == first.of("init_run") == (1, 1)
    with Compilations() as second:
        assert running.call(train, "--resume", "--max_iterations=5") == 0
    assert second.of("iterate") == (1, 1)
    assert second.of("init_run") == (0, 0)


@pytest.mark.slow
def test_second_start_reads_the_compilation_cache(tmp_path):
    """The second process to compile a program takes it from the disk."""

    def hits():
        jax.clear_caches()
        with Compilations() as seen:
            trainers.lower(trainers.make_trainer(CONFIG, Counter())).compile()
        return seen.counts.get("/jax/compilation_cache/cache_hits", 0)

    with running.compilations_kept_in(tmp_path):
        assert hits() == 0
        assert any("iterate" in path.name for path in tmp_path.iterdir())
        assert hits() > 0
