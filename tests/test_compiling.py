"""Programs have the options of their backend, and only where it has some."""

import chex
import jax
import jax.numpy as jnp
import pytest
from compilations import Compilations

from ppo_jax import compiling
from ppo_jax.compiling import LEVEL, OPTIONS, Program, jit, once, whole
from ppo_jax.configs import config_for
from ppo_jax.envs import TASKS, make
from ppo_jax.loops import programs
from ppo_jax.runs.trainers import make_trainer


def test_a_backend_without_options_has_plain_programs():
    assert not isinstance(jit(lambda x: x + 1), Program)


def test_options_reach_the_compiler(monkeypatch):
    """On a CPU too that of CUDA is accepted; a wrong value is not."""
    backend = jax.default_backend()
    monkeypatch.setitem(OPTIONS, backend, OPTIONS["gpu"])
    program = jit(lambda x, power: x**power, static_argnums=1)
    assert program(jnp.full(2, 3.0), 2).tolist() == [9.0, 9.0]
    assert program.lower(jnp.ones(2), 2).compile()(jnp.full(2, 2.0)).tolist() == [4, 4]
    wrong = dict.fromkeys(OPTIONS["gpu"], "SIDEWAYS")
    monkeypatch.setitem(OPTIONS, backend, wrong)
    with pytest.raises(jax.errors.JaxRuntimeError, match="SIDEWAYS"):
        jit(lambda x: x + 1)(jnp.ones(2))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="an option of XLA on a CPU")
def test_what_is_one_program_is_compiled_for_wide_vectors(monkeypatch):
    env = make("Cartpole", num_envs=2)
    wrong = dict.fromkeys(whole(), "SIDEWAYS")
    monkeypatch.setattr(compiling, "whole", lambda: wrong)
    with pytest.raises(jax.errors.JaxRuntimeError, match="SIDEWAYS"):
        programs.jit(env, lambda x: x + 1)(jnp.ones(2))


def test_a_level_that_is_asked_for_is_left_as_it_is(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"--{LEVEL}=0")
    assert LEVEL not in whole() | once() | once(exact=True)


@pytest.mark.slow
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="options of XLA on a CPU")
@pytest.mark.parametrize("task", TASKS)
def test_what_a_run_begins_with_has_the_numbers_of_any_program(task):
    """It is compiled in less time than by default, and to the same digits."""
    trainer = make_trainer(config_for(task), make(task, num_envs=64))
    key = jax.random.key(3)
    chex.assert_trees_all_equal(trainer.init(key), jax.jit(trainer.init)(key))


def test_a_call_waits_for_what_is_compiled_ahead():
    def add_one(x):
        return x + 1

    program = Program(add_one)
    with Compilations() as seen:
        for _ in range(2):  # asked for twice it is done once
            program.compile_ahead(jax.ShapeDtypeStruct((2,), jnp.float32))
        assert program(jnp.ones(2)).tolist() == [2.0, 2.0]
    assert seen.of("add_one") == (1, 1)


def test_what_fails_to_compile_ahead_fails_in_the_call():
    program = Program(lambda x: x + 1, compiler_options={LEVEL: "SIDEWAYS"})
    program.compile_ahead(jax.ShapeDtypeStruct((2,), jnp.float32))
    with pytest.raises(jax.errors.JaxRuntimeError, match="SIDEWAYS"):
        program(jnp.ones(2))


def test_inside_another_program_the_outer_one_decides(monkeypatch):
    monkeypatch.setitem(OPTIONS, jax.default_backend(), OPTIONS["gpu"])
    inner = jit(lambda x: x + 1)
    assert isinstance(inner, Program)
    assert jax.jit(inner)(jnp.ones(2)).tolist() == [2.0, 2.0]
    assert jax.vmap(inner)(jnp.ones(2)).tolist() == [2.0, 2.0]
