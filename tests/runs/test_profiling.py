"""A trace of some iterations, and what it calls their parts."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from ppo_jax import Hyperparams, ModelConfig, PPOConfig, actor_critic, make_ppo
from ppo_jax.envs import make
from ppo_jax.loops.training import init_run, iterate
from ppo_jax.runs import profiling

KINDS = {"perfetto_trace.json.gz", ".xplane.pb"}


@jax.jit
def iteration(x):
    return jnp.sin(x).sum()


def iterations(count, seen):
    for index in range(count):
        seen.append(index)
        yield iteration(jnp.arange(8.0) + index).block_until_ready()


def traces(folder):
    files = folder.glob(f"{profiling.FOLDER}/plugins/profile/*/*")
    names = [path.name for path in files if path.stat().st_size]
    return {kind for kind in KINDS if any(name.endswith(kind) for name in names)}


@pytest.mark.parametrize(("count", "total", "said"), [(2, 5, 2), (9, 3, 2)])
def test_some_iterations_are_traced_and_all_are_passed_on(tmp_path, count, total, said):
    seen, notes = [], []
    passed = profiling.traced(iterations(total, seen), tmp_path, count, notes.append)
    assert len(list(passed)) == total
    assert seen == list(range(total))
    assert traces(tmp_path) == KINDS
    (note,) = notes
    assert note.startswith(f"profile of {said} iterations in {tmp_path}")


def test_nothing_is_traced_unless_asked_for(tmp_path):
    assert len(list(profiling.traced(iterations(3, []), tmp_path, 0))) == 3
    assert not list(tmp_path.iterdir())


def test_a_run_that_stops_early_has_its_trace(tmp_path):
    """And another one can begin: the profiler is one for all."""
    for folder in (tmp_path / "1", tmp_path / "2"):
        seen = []
        for _ in profiling.traced(iterations(5, seen), folder, 4):
            if len(seen) == 3:
                break
        assert seen == [0, 1, 2]
        assert traces(folder) == KINDS


def test_a_trace_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / profiling.FOLDER).write_text("no folder")
    notes = []
    passed = profiling.traced(iterations(4, []), tmp_path, 2, notes.append)
    assert len(list(passed)) == 4
    assert len(notes) == 1 and "could not be written" in notes[0]


def test_the_parts_of_an_iteration_have_names_and_nothing_else_changes():
    env = make("Cartpole", 4)
    model = ModelConfig(hidden_dims=(4,))
    config = PPOConfig(num_learning_epochs=1, num_mini_batches=1)
    ppo = make_ppo(actor_critic(env.action_space, model, model), config)
    start = partial(init_run, ppo, env, Hyperparams())
    run = jax.eval_shape(start, jax.random.key(0))
    lowered = jax.jit(partial(iterate, ppo, env, 2)).lower(run, Hyperparams())
    named, plain = lowered.as_text(debug_info=True), lowered.as_text()
    for scope in ("act", "step", "gae", "update"):
        assert re.search(rf'["/]{scope}/', named), scope
    assert "loc(" not in plain and "update/" not in plain
