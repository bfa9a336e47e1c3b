"""Recurrent layers through a sequence, and their gradient.

Letters in the shape comments: H hidden units of a layer, G gates of each. The kernels
of all gates lie side by side in one, in torch's order.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppo_jax.policies.gates import KINDS, Kind
from ppo_jax.policies.memory import forget
from ppo_jax.policies.mlp import product
from ppo_jax.types import Array


class Reading(NamedTuple):
    """A sequence, and the layer that reads it: G gates of H units."""

    memory: Any  # before the sequence
    x: Array  # [T, N, D]
    is_first: Any  # [T, N] bool, where memory is cleared before a step
    input_kernel: Array  # [D, G H] W_ih
    hidden_kernel: Array  # [H, G H] W_hh
    input_bias: Array  # [G H] b_ih
    hidden_bias: Array  # [G H] b_hh


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def unroll(rnn_types: tuple[str, ...], readings: tuple[Reading, ...]) -> Any:
    """Returns the outputs of layers over sequences of one length, and their memories.

    All take a step before any takes the next: the gates of one are computed beside the
    products of another.

    The gradient is that of the steps one by one, but for the weights it is one product
    of all T x N rows at the end. Differentiated as it stands, the scan would add up a
    matrix [H, G H] in every step, which takes longer than the rest.

    Args:
      rnn_types: a name in `KINDS` for each layer.
      readings: of each layer.

    Returns:
      For each layer its outputs [T, N, H], and its memory after the last step.
    """
    return _unroll(rnn_types, readings)[0]


def step(
    kind: Kind,
    memory: Any,
    x: Array,
    input_kernel: Array,
    hidden_kernel: Array,
    input_bias: Array,
    hidden_bias: Array,
) -> Any:
    """Returns the memory after one step, of x [N, D]."""
    from_input = _plus(product(x, input_kernel), input_bias)
    from_hidden = _plus(product(memory.hidden, hidden_kernel), hidden_bias)
    return kind.step(memory, from_input, from_hidden)


def _unroll(
    rnn_types: tuple[str, ...], readings: tuple[Reading, ...]
) -> tuple[Any, Any]:
    """Returns what `unroll` does, and what its gradient reads.

    The gates take the place of what comes from the input, and the gradient takes
    theirs: one array of this size, the largest, is read and written, and not four.
    """
    kinds = [KINDS[name] for name in rnn_types]

    def take(carry: Any, t: Array) -> tuple[Any, Any]:
        return _apart(map(partial(_forward, t), kinds, readings, *_apart(carry)))

    # Of all steps at once: one large product and not T small ones.
    start = tuple((r.memory, product(r.x, r.input_kernel)) for r in readings)
    carry, kept = jax.lax.scan(take, start, jnp.arange(len(readings[0].x)))
    last, gates = _apart(carry)
    hidden, before, from_hidden = _apart(kept)
    return _apart((hidden, last)), (readings, before, gates, from_hidden)


def _forward(
    t: Array, kind: Kind, reading: Reading, memory: Any, buffer: Array
) -> tuple[Any, Any]:
    """Returns what a layer carries from step t to the next, and what is kept of it."""
    memory = forget(memory, _row(reading.is_first, t))
    from_input = _plus(_row(buffer, t), reading.input_bias)
    from_hidden = product(memory.hidden, reading.hidden_kernel)
    from_hidden = _plus(from_hidden, reading.hidden_bias)
    gates = kind.gates(from_input, from_hidden)
    gates = jax.lax.optimization_barrier(gates)  # computed once, not by all readers
    buffer = jax.lax.dynamic_update_index_in_dim(buffer, gates, t, axis=0)
    after = kind.through_gates(memory, gates)
    kept = () if kind.reads_sum else from_hidden
    return (after, buffer), (after.hidden, memory, kept)


def _unroll_gradient(rnn_types: tuple[str, ...], kept: Any, cotangents: Any) -> Any:
    """Returns the gradient of `unroll` from those of its results, backward in time."""
    readings, before, gates, from_hidden = kept
    of_hidden, of_last = _apart(cotangents)
    kinds = [KINDS[name] for name in rnn_types]
    # Laid out once: XLA on a CPU would turn it over in every step.
    turned = [jax.lax.optimization_barrier(r.hidden_kernel.T) for r in readings]
    is_first = [r.is_first for r in readings]
    seen = _apart((before, from_hidden, is_first, of_hidden))

    def take(carry: Any, t: Array) -> tuple[Any, Any]:
        rows = jax.tree.map(lambda x: _row(x, t), seen)
        return _apart(map(partial(_backward, t), kinds, turned, rows, *_apart(carry)))

    start = _apart((of_last, [g[-1] for g in gates], gates))
    steps = jnp.arange(len(is_first[0]))
    carry, of_from_hidden = jax.lax.scan(take, start, steps, reverse=True)
    of_memory, _, of_input = _apart(carry)
    of_readings = map(
        _reading_gradient, kinds, readings, before, of_memory, of_input, of_from_hidden
    )
    return (tuple(of_readings),)


def _backward(
    t: Array,
    kind: Kind,
    turned: Array,
    rows: Any,
    of_memory: Any,
    gates: Array,
    buffer: Array,
) -> tuple[Any, Any]:
    """Returns what a layer's gradient carries from step t to the one before, and keeps.

    Args:
      t: the step.
      kind: of the layer.
      turned: [G H, H] W_hh.
      rows: of the step: what `_forward` kept, `is_first`, the output's gradient.
      of_memory: gradient of the memory after the step.
      gates: [N, G H] of the step.
      buffer: [T, N, G H] gates up to the step, gradients after it.
    """
    before, from_hidden, is_first, of_output = rows
    of_memory = of_memory._replace(hidden=of_memory.hidden + of_output)
    pull_back = jax.vjp(kind.through_gates, before, gates)[1]
    of_before, of_gates = pull_back(of_memory)
    of_input, of_from_hidden = kind.gates_gradient(gates, from_hidden, of_gates)
    through = product(of_from_hidden, turned)
    of_before = of_before._replace(hidden=of_before.hidden + through)
    # The next row is read out of what has been written, so that nothing can read
    # the buffer as it was: XLA would copy all of it in every step.
    buffer = jax.lax.dynamic_update_index_in_dim(buffer, of_input, t, axis=0)
    gates = _row(buffer, jnp.maximum(t - 1, 0))
    kept = () if kind.reads_sum else of_from_hidden
    return (forget(of_before, is_first), gates, buffer), kept


def _reading_gradient(
    kind: Kind,
    reading: Reading,
    before: Any,
    of_memory: Any,
    of_input: Array,
    of_from_hidden: Any,
) -> Reading:
    """Returns the gradient of all that a layer reads, from that of all its steps.

    Where the gates read a sum, both kernels' gradient is one product.
    """
    x, hidden = _rows(reading.x), _rows(before.hidden)
    input_rows, type_of = _rows(of_input), reading.input_kernel.dtype

    def of_kernel(columns: Array, rows: Array) -> Array:
        return product(columns.T, rows.astype(type_of)).astype(type_of)

    if kind.reads_sum:
        hidden_rows = input_rows
        of_both = of_kernel(jnp.concatenate([x, hidden], axis=-1), input_rows)
        of_input_kernel, of_hidden_kernel = jnp.split(of_both, [x.shape[-1]])
    else:
        hidden_rows = _rows(of_from_hidden)
        of_input_kernel = of_kernel(x, input_rows)
        of_hidden_kernel = of_kernel(hidden, hidden_rows)
    of_x = product(of_input, reading.input_kernel.T).astype(reading.x.dtype)
    return Reading(
        memory=of_memory,
        x=of_x,
        is_first=None,
        input_kernel=of_input_kernel,
        hidden_kernel=of_hidden_kernel,
        input_bias=input_rows.sum(axis=0),
        hidden_bias=hidden_rows.sum(axis=0),
    )


unroll.defvjp(_unroll, _unroll_gradient)


def _plus(x: Array, bias: Array) -> Array:
    return x + bias.reshape((1,) * (x.ndim - 1) + bias.shape)


def _row(buffer: Array, t: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(buffer, t, axis=0, keepdims=False)


def _rows(x: Array) -> Array:
    """Returns [T N, D] of [T, N, D]."""
    return x.reshape(-1, x.shape[-1])


def _apart(tuples: Iterable[Any]) -> tuple[Any, ...]:
    """Returns ((a, A), (b, B)) of ((a, b), (A, B)), and back."""
    return tuple(zip(*tuples, strict=True))
