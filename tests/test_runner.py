"""The loop on the host: when it saves, what stops it, and that it compiles once."""

import os
import signal
import threading
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import running

import train
from ppo_jax import (
    Continuous,
    TimeStep,
    actor_critic,
    checkpoint,
    cli,
    metrics,
    runner,
)
from ppo_jax.config import AlgorithmConfig, Config
from ppo_jax.losses import ppo_loss
from ppo_jax.networks import ModelConfig
from ppo_jax.ppo import make_ppo
from ppo_jax.training import iterate

NUM_STEPS = 4
FAULTY = np.array([False, True, False, True])  # environments 1 and 3


@dataclass(frozen=True)
class Counter:
    """Four environments that count their steps; one quantity breaks in one step."""

    quantity: str = ""
    value: float = 0.0
    broken_step: int = 0  # counted from 1
    num_envs: int = 4
    max_episode_length: int = 6
    step_dt: float = 0.1
    action_space: Any = Continuous(1)

    def reset(self, key):
        count = jnp.zeros(self.num_envs, jnp.int32)
        return (count, jnp.int32(0)), self._obs(count, False)

    def step(self, env_state, action):
        count, step = env_state
        step, count = step + 1, count + 1
        broken = FAULTY & (step == self.broken_step)
        reward = -jnp.abs(action[:, 0])
        if self.quantity == "reward":
            reward = jnp.where(broken, self.value, reward)
        truncated = count >= self.max_episode_length
        count = jnp.where(truncated, 0, count)
        obs = self._obs(count, broken if self.quantity == "obs" else False)
        never = jnp.zeros(self.num_envs, bool)
        return (count, step), TimeStep(obs, reward, never, truncated, None, {})

    def randomize_episode_length(self, env_state, key):
        return env_state

    def _obs(self, count, broken):
        x = jnp.stack([jnp.sin(count), jnp.cos(count)], axis=-1)
        return {"policy": jnp.where(jnp.reshape(broken, (-1, 1)), self.value, x)}


def make_config(**changes):
    """One gradient step an iteration, so that a loss is measured before any step."""
    algorithm = AlgorithmConfig(
        num_learning_epochs=1,
        num_mini_batches=1,
        learning_rate=changes.pop("learning_rate", 1e-3),
    )
    defaults = {"num_steps_per_env": NUM_STEPS, "max_iterations": 6, "logger": "none"}
    model = ModelConfig(hidden_dims=(4,))
    return Config(
        task="Counter",
        num_envs=4,
        actor=model,
        critic=model,
        algorithm=algorithm,
        **(defaults | changes),
    )


def train_counter(folder, env=Counter(), run=None, callbacks=None, **changes):
    trainer = runner.make_trainer(make_config(**changes), env)
    return runner.run_training(trainer, folder, run, **(callbacks or {}))


def learned(outcome):
    return jax.device_get(outcome.run.train)


# The run breaks in its second iteration: steps 5 to 8.
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("quantity", "broken_step", "words"),
    [
        ("reward", 5, "reward of the environments [1, 3]"),
        ("reward", 8, "reward of the environments [1, 3]"),
        ("obs", 6, "obs['policy'] of the environments [1, 3]"),
    ],
)
def test_environment_that_breaks_stops_the_run(
    tmp_path, quantity, broken_step, words, value
):
    """Iteration, quantity, environments and the last good checkpoint are named."""
    env = Counter(quantity, value, broken_step)
    with pytest.raises(runner.NotFinite) as error:
        train_counter(tmp_path, env, save_interval=1)
    sentence = str(error.value)
    assert f"in iteration 2 {words} became NaN or infinite" in sentence
    assert f"last good checkpoint is {tmp_path / 'checkpoints' / '1'}." in sentence
    assert checkpoint.iterations(tmp_path) == [1]
    assert metrics.read_table(tmp_path)["iteration"] == [0]


def test_observation_that_breaks_in_the_last_step_is_not_saved(tmp_path):
    """Step 8 ends iteration 2; what it observes is acted on in iteration 3."""
    env = Counter("obs", np.nan, broken_step=8)
    with pytest.raises(runner.NotFinite, match=r"in iteration 2 .*/checkpoints/1\."):
        train_counter(tmp_path, env, save_interval=1)
    assert checkpoint.iterations(tmp_path) == [1]


def test_unchecked_environment_still_cannot_spoil_what_is_learned(tmp_path):
    """`check_for_nan = False` lets observations pass, but no loss that is NaN."""
    env = Counter("reward", np.nan, broken_step=5)
    with pytest.raises(runner.NotFinite, match=r"in iteration 2 the .* loss"):
        train_counter(tmp_path, env, save_interval=1, check_for_nan=False)
    assert checkpoint.iterations(tmp_path) == [1]


def broken_loss(quantity, params, network, batch, hparams):
    """ppo_loss with one quantity not finite: the loss, or only its gradient."""
    loss, reported = ppo_loss(params, network, batch, hparams)
    if quantity == "loss":
        return loss + jnp.inf, reported
    zero = 0.0 * jnp.sum(params["actor"]["head"]["mean"]["bias"] ** 2)
    return loss + jnp.sqrt(zero), reported  # d sqrt(0) = inf, times 0: NaN


@pytest.mark.parametrize(
    ("quantity", "words"),
    [("loss", "the loss"), ("gradient", "the gradient of the actor")],
)
def test_update_that_breaks_stops_the_run(tmp_path, quantity, words):
    """A loss or a gradient that is not finite: named, and nothing is saved."""
    config, env = make_config(save_interval=1), Counter()
    trainer = runner.make_trainer(config, env)
    network = actor_critic(env.action_space, config.actor, config.critic)
    ppo = make_ppo(network, config.algorithm, partial(broken_loss, quantity))
    step = jax.jit(partial(iterate, ppo, env, NUM_STEPS), donate_argnums=0)
    with pytest.raises(runner.NotFinite) as error:
        runner.run_training(trainer._replace(iterate=step), tmp_path)
    assert f"in iteration 1 {words} became NaN" in str(error.value)
    assert "There is no checkpoint yet" in str(error.value)
    assert checkpoint.iterations(tmp_path) == []


def test_parameter_that_breaks_is_not_saved(tmp_path):
    """A learning rate beyond float32: losses are fine, the weights after them not."""
    with pytest.raises(runner.NotFinite, match=r"in iteration 1 params\.actor\."):
        train_counter(tmp_path, learning_rate=1e300, save_interval=1)
    assert checkpoint.iterations(tmp_path) == []


def test_train_exits_with_1_when_numbers_break(tmp_path, monkeypatch, capsys):
    """train.py: one sentence on stderr, exit code 1, no traceback."""
    trainer = runner.make_trainer(make_config(), Counter("reward", np.nan, 5))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "make_trainer", lambda config: trainer)
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
    trainer = runner.make_trainer(make_config(), Counter())
    template = runner.abstract_run(trainer)
    restored = checkpoint.restore_run(tmp_path / "parts", template)
    parts = runner.run_training(trainer, tmp_path / "parts", restored.state)
    jax.tree.map(np.testing.assert_array_equal, learned(whole), learned(parts))


def test_checkpoints_of_another_continuation_are_set_aside(tmp_path):
    """Going on from 2 where 4 is there: 4 moves away, the curves are cut at 2."""
    train_counter(tmp_path, max_iterations=2)
    trainer = runner.make_trainer(make_config(), Counter())
    early = checkpoint.restore_run(tmp_path, runner.abstract_run(trainer)).state
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
    interrupt = lambda *args: os.kill(os.getpid(), signal.SIGINT)
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


class Compilations:
    """Counts what JAX traces, compiles, and finds in the persistent cache."""

    def __init__(self):
        self.counts = {}

    def __enter__(self):
        jax.monitoring.register_event_duration_secs_listener(self._duration)
        jax.monitoring.register_event_listener(self._event)
        return self

    def __exit__(self, *error):
        jax.monitoring.unregister_event_duration_listener(self._duration)
        jax.monitoring.unregister_event_listener(self._event)

    def _event(self, name, **kwargs):
        self.counts[name] = self.counts.get(name, 0) + 1

    def _duration(self, name, seconds, **kwargs):
        self._event(f"{name} {kwargs.get('fun_name')}")

    def of_iteration(self):
        """Returns how often the program of an iteration was traced and compiled."""
        return (
            self.counts.get("/jax/core/compile/jaxpr_trace_duration iterate", 0),
            self.counts.get(
                "/jax/core/compile/backend_compile_duration jit(iterate)", 0
            ),
        )


def test_a_real_run_compiles_its_iteration_once(tmp_path, monkeypatch):
    """train.py traces and compiles the iteration once, and once more in a resume."""
    monkeypatch.chdir(tmp_path)
    argv = ("--logger=none", "save_interval=2")
    with Compilations() as first:
        assert running.call(train, *running.TINY, *argv, "--max_iterations=3") == 0
    assert first.of_iteration() == (1, 1)
    with Compilations() as second:
        assert running.call(train, "--resume", "--max_iterations=5") == 0
    assert second.of_iteration() == (1, 1)


def test_second_start_reads_the_compilation_cache(tmp_path, monkeypatch):
    """The second process to compile a program takes it from the disk."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    hits = "/jax/compilation_cache/cache_hits"
    folder = jax.config.jax_compilation_cache_dir
    threshold = jax.config.jax_persistent_cache_min_compile_time_secs

    def compile_anew():
        jax.clear_caches()
        with Compilations() as seen:
            runner.lower(runner.make_trainer(make_config(), Counter())).compile()
        return seen.counts.get(hits, 0)

    try:
        cli.use_compilation_cache()
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.experimental.compilation_cache.compilation_cache.reset_cache()
        assert compile_anew() == 0
        assert any("iterate" in path.name for path in tmp_path.iterdir())
        assert compile_anew() == 1
    finally:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", threshold)
        jax.experimental.compilation_cache.compilation_cache.reset_cache()
