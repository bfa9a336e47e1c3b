"""Programs have the options of their backend, and only where it has some."""

import jax
import jax.numpy as jnp
import pytest

from ppo_jax.compiling import OPTIONS, Program, jit


def test_a_backend_without_options_has_plain_programs(monkeypatch):
    monkeypatch.delitem(OPTIONS, jax.default_backend())
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


def test_inside_another_program_the_outer_one_decides(monkeypatch):
    monkeypatch.setitem(OPTIONS, jax.default_backend(), OPTIONS["gpu"])
    inner = jit(lambda x: x + 1)
    assert isinstance(inner, Program)
    assert jax.jit(inner)(jnp.ones(2)).tolist() == [2.0, 2.0]
    assert jax.vmap(inner)(jnp.ones(2)).tolist() == [2.0, 2.0]
