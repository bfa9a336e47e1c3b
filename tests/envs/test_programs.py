"""A program calls a simulator as often as it was written to, or does not run."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.buffer_callback import buffer_callback

from ppo_jax.envs.programs import OPTIONS, SimulatorProgram, WrongCalls, count_calls

T = 5


class Counter:
    """A simulator that counts its steps and writes the count into XLA's buffer."""

    def __init__(self):
        self.steps = 0
        spec = jax.ShapeDtypeStruct((4,), jnp.float32)
        self._call = buffer_callback(self._fill, spec, has_side_effect=True)
        self.step = jax.jit(self._call)  # a function that is called, as the bridge's is

    def _fill(self, context, output, action):
        self.steps += 1
        np.from_dlpack(output)  # of XLA, and only lent


def rollout(simulator, x):
    """Steps before a loop, in it, and in a branch of it that a loop holds."""

    def body(x, _):
        x = simulator.step(x)
        x = jax.lax.cond(x.sum() >= 0, simulator.step, simulator.step, x)
        return x, x

    x = simulator.step(simulator.step(x))
    _, xs = jax.lax.scan(body, x, length=T)
    return xs


def test_calls_are_counted_where_they_are_used():
    """2 before the loop, 1 in it, 1 in each branch; XLA inlines what is called."""
    lowered = jax.jit(partial(rollout, Counter())).lower(jnp.ones(4))
    assert count_calls(lowered.as_text()) == 5
    assert count_calls(lowered.compile().as_text()) == 5


def test_without_a_simulator_nothing_is_counted():
    lowered = jax.jit(lambda x: jax.lax.fori_loop(0, T, lambda _, x: x + 1, x))
    lowered = lowered.lower(jnp.ones(4))
    assert count_calls(lowered.as_text()) == count_calls("") == 0
    assert count_calls(lowered.compile().as_text()) == 0


# What XLA wrote for one step of a loop on CUDA, shortened: the callback was cloned
# into the fusion that stores its result.
CLONED = """
%fused (param: f32[4]) -> f32[4] {
  %buffer_callback.12 = (f32[4]{0}, s32[]) custom-call(%param), \
custom_call_target="xla_buffer_python_gpu_callback", metadata={op_name="xla"}
}

%body (arg: (s32[], f32[4])) -> (s32[], f32[4]) {
  %buffer_callback.0 = (f32[4]{0}, s32[]) custom-call(%x), \
custom_call_target="xla_buffer_python_gpu_callback"
  %fusion = f32[4] fusion(%x), kind=kCustom, calls=%fused
}

ENTRY %main.7 (n.1: s32[]) -> (f32[4], s32[]) {
  %while.6 = (s32[], f32[4]) while(%tuple.11), condition=%less, body=%body
}
"""


def test_a_clone_in_a_fusion_is_counted():
    assert count_calls(CLONED) == 2


def doubled(function, *args):
    """Returns the function with each of its simulator's calls made twice."""

    def twice(step):
        def stepped(x):
            step(x)
            return step(x)

        return stepped

    return partial(function, twice, *args)


def test_a_doubled_call_is_refused_before_the_first_step(monkeypatch):
    """The compiler clones the call, as XLA does on CUDA; the clone would really run."""
    simulator = Counter()

    def program(wrap, x):
        body = lambda x, _: (wrap(simulator.step)(x),) * 2
        return jax.lax.scan(body, x, length=T)[1]

    plain = partial(program, lambda step: step)
    compile_ = jax.stages.Lowered.compile
    cloned = compile_(jax.jit(doubled(program)).lower(jnp.ones(4)))
    jax.block_until_ready(cloned(jnp.ones(4)))
    assert simulator.steps == 2 * T
    with monkeypatch.context() as patch:
        patch.setattr(jax.stages.Lowered, "compile", lambda self: cloned)
        for start in (
            SimulatorProgram(plain),
            lambda x: SimulatorProgram(plain).lower(x).compile(),
        ):
            with pytest.raises(WrongCalls) as error:
                start(jnp.ones(4))
    assert simulator.steps == 2 * T, "nothing ran"
    sentence = str(error.value)
    assert f"jax {jax.__version__} compiled 2 calls" in sentence
    assert "the program has 1" in sentence and "xla_gpu_enable" in sentence
    jax.block_until_ready(SimulatorProgram(plain)(jnp.ones(4)))
    assert simulator.steps == 3 * T


def test_a_program_is_compiled_once_for_each_kind_of_argument():
    traces = []

    def function(x, scale, power):
        traces.append(x.shape)
        return x**power * scale

    program = SimulatorProgram(function, static_argnums=2)
    for size in (3, 3, 4, 3):
        assert program(jnp.full(size, 2.0), 5.0, 3).tolist() == [40.0] * size
    assert traces == [(3,), (4,)]
    assert program(jnp.full(3, 2.0), 7.0, 2).tolist() == [28.0] * 3
    assert len(traces) == 3


def test_inside_another_program_it_is_the_function_itself():
    program = SimulatorProgram(
        lambda x: x + 1, compiler_options={"xla_cpu_enable_fast_math": 0}
    )
    assert jax.jit(program)(jnp.ones(2)).tolist() == [2.0, 2.0]
    assert jax.eval_shape(program, jnp.ones(2)).shape == (2,)


def test_the_option_is_one_that_jax_knows(monkeypatch):
    """On a CPU too it is accepted, as an option of a program; a wrong name is not."""
    monkeypatch.setitem(OPTIONS, jax.default_backend(), OPTIONS["gpu"])
    assert SimulatorProgram(lambda x: x + 1)(jnp.ones(2)).tolist() == [2.0, 2.0]
    monkeypatch.setitem(OPTIONS, jax.default_backend(), {"xla_gpu_enable_nothing": 0})
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option"):
        SimulatorProgram(lambda x: x + 1)(jnp.ones(2))
