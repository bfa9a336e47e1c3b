"""Programs have the options of their backend, and only where it has some."""

import jax
import jax.numpy as jnp
import pytest

from ppo_jax import compiling
from ppo_jax.compiling import OPTIONS, Program, jit, whole
from ppo_jax.envs import make
from ppo_jax.loops import programs


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


def test_inside_another_program_the_outer_one_decides(monkeypatch):
    monkeypatch.setitem(OPTIONS, jax.default_backend(), OPTIONS["gpu"])
    inner = jit(lambda x: x + 1)
    assert isinstance(inner, Program)
    assert jax.jit(inner)(jnp.ones(2)).tolist() == [2.0, 2.0]
    assert jax.vmap(inner)(jnp.ones(2)).tolist() == [2.0, 2.0]
