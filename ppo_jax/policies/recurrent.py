"""LSTM and GRU with torch's gates, biases and initialisation.

Letters in the shape comments: H hidden units of a layer. All four kernels of torch's
stacked gates lie side by side in one, in torch's order.
"""

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppo_jax.policies.gates import KINDS
from ppo_jax.policies.memory import forget
from ppo_jax.policies.mlp import product
from ppo_jax.types import Array, Key


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def unroll(
    rnn_type: str,
    memory: Any,
    from_input: Array,
    is_first: Array,
    hidden_kernel: Array,
    hidden_bias: Array,
) -> tuple[Array, Any]:
    """Returns the outputs of a layer over a sequence, and its memory after it.

    The gradient is that of the steps one by one, but for the weights it is one product
    of all T x N rows at the end. Differentiated as it stands, the scan would add up a
    matrix [H, G H] in every step, which takes longer than the rest.

    Args:
      rnn_type: a name in `KINDS`, with G gates.
      memory: before the sequence.
      from_input: [T, N, G H] x W_ih, and b_ih where it is not added to b_hh.
      is_first: [T, N] bool, where the memory is cleared before the step.
      hidden_kernel: [H, G H] W_hh.
      hidden_bias: [G H] b_hh.

    Returns:
      [T, N, H], and the memory after the last step.
    """
    weights = hidden_kernel, hidden_bias
    return _unroll(rnn_type, memory, from_input, is_first, *weights)[0]


def _unroll(
    rnn_type: str,
    memory: Any,
    from_input: Array,
    is_first: Array,
    hidden_kernel: Array,
    hidden_bias: Array,
) -> tuple[Any, Any]:
    """Returns what `unroll` does, and what its gradient reads.

    The gates take the place of what comes from the input, and the gradient takes
    theirs: one array of this size, the largest, is read and written, and not four.
    """
    kind = KINDS[rnn_type]

    def step(carry: tuple[Any, Array], inputs: tuple[Array, Array]) -> tuple[Any, Any]:
        memory, buffer = carry
        t, is_first = inputs
        memory = forget(memory, is_first)
        from_hidden = _plus(product(memory.hidden, hidden_kernel), hidden_bias)
        gates = kind.gates(_row(buffer, t), from_hidden)
        gates = jax.lax.optimization_barrier(gates)  # computed once, not by all readers
        buffer = jax.lax.dynamic_update_index_in_dim(buffer, gates, t, axis=0)
        after = kind.through_gates(memory, gates)
        kept = () if kind.reads_sum else from_hidden
        return (after, buffer), (after.hidden, memory, kept)

    (last, gates), (hidden, before, from_hidden) = jax.lax.scan(
        step, (memory, from_input), (jnp.arange(len(is_first)), is_first)
    )
    return (hidden, last), (before, gates, from_hidden, is_first, hidden_kernel)


def _unroll_gradient(rnn_type: str, kept: Any, cotangents: Any) -> Any:
    """Returns the gradient of `unroll` from those of its results, backward in time."""
    before, gates, from_hidden, is_first, hidden_kernel = kept
    of_hidden, of_last = cotangents
    kind = KINDS[rnn_type]
    # Laid out once: XLA on a CPU would turn it over in every step.
    transposed = jax.lax.optimization_barrier(hidden_kernel.T)

    def step(carry: tuple[Any, Array, Array], inputs: Any) -> tuple[Any, Any]:
        of_memory, gates, buffer = carry
        t, before, from_hidden, is_first, of_output = inputs
        of_memory = of_memory._replace(hidden=of_memory.hidden + of_output)
        pull_back = jax.vjp(kind.through_gates, before, gates)[1]
        of_before, of_gates = pull_back(of_memory)
        of_input, of_from_hidden = kind.gates_gradient(gates, from_hidden, of_gates)
        through = product(of_from_hidden, transposed)
        of_before = of_before._replace(hidden=of_before.hidden + through)
        # The next row is read out of what has been written, so that nothing can read
        # the buffer as it was: XLA would copy all of it in every step.
        buffer = jax.lax.dynamic_update_index_in_dim(buffer, of_input, t, axis=0)
        gates = _row(buffer, jnp.maximum(t - 1, 0))
        of_from_hidden = () if kind.reads_sum else of_from_hidden
        return (forget(of_before, is_first), gates, buffer), of_from_hidden

    inputs = jnp.arange(len(is_first)), before, from_hidden, is_first, of_hidden
    (of_memory, _, of_input), of_from_hidden = jax.lax.scan(
        step, (of_last, gates[-1], gates), inputs, reverse=True
    )
    rows = of_input if kind.reads_sum else of_from_hidden
    rows = rows.reshape(-1, rows.shape[-1])
    columns = before.hidden.reshape(-1, before.hidden.shape[-1]).T
    of_kernel = product(columns, rows.astype(hidden_kernel.dtype))
    of_kernel = of_kernel.astype(hidden_kernel.dtype)
    return of_memory, of_input, None, of_kernel, rows.sum(axis=0)


unroll.defvjp(_unroll, _unroll_gradient)


class RecurrentLayer(nn.Module):
    """One layer of an LSTM or a GRU, with both of torch's biases.

    They do the same and learn twice as fast as one: each has its own Adam.
    """

    rnn_type: str
    hidden_dim: int

    @nn.compact
    def __call__(
        self, x: Array, memory: Any, is_first: Array | None = None
    ) -> tuple[Array, Any]:
        """Maps [N, D] to [N, H], or, with `is_first` [T, N], [T, N, D] to [T, N, H].

        Returns:
          The output, and the memory after the last step.
        """
        kind = KINDS[self.rnn_type]
        width, limit = (
            kind.num_gates * self.hidden_dim,
            1.0 / math.sqrt(self.hidden_dim),
        )

        def uniform(key: Key, shape: tuple[int, ...]) -> Array:
            return jax.random.uniform(key, shape, minval=-limit, maxval=limit)

        input_kernel = self.param("input_kernel", uniform, (x.shape[-1], width))
        hidden_kernel = self.param("hidden_kernel", uniform, (self.hidden_dim, width))
        input_bias = self.param("input_bias", uniform, (width,))
        hidden_bias = self.param("hidden_bias", uniform, (width,))
        # Of all steps at once: one large product and not T small ones.
        from_input = product(x, input_kernel)
        if kind.reads_sum:  # the biases too, so that no array is read for one alone
            hidden_bias = input_bias + hidden_bias
        else:
            from_input = _plus(from_input, input_bias)

        if is_first is not None:
            return unroll(
                self.rnn_type, memory, from_input, is_first, hidden_kernel, hidden_bias
            )
        from_hidden = _plus(product(memory.hidden, hidden_kernel), hidden_bias)
        memory = kind.step(memory, from_input, from_hidden)
        return memory.hidden, memory


class RNN(nn.Module):
    """Layers of LSTM or GRU, each reading the output of the one before."""

    rnn_type: str
    hidden_dim: int
    num_layers: int

    @nn.compact
    def __call__(
        self, x: Array, memory: tuple[Any, ...], is_first: Array | None = None
    ) -> tuple[Array, tuple[Any, ...]]:
        """Maps one step or a sequence of them; see `RecurrentLayer`.

        Args:
          x: [N, D] one step, or [T, N, D].
          memory: before it, of each layer.
          is_first: [T, N] bool, where an episode begins, and the memory with it.

        Returns:
          [N, H] or [T, N, H] of the last layer, and the memory after the last step.
        """
        after = []
        for index in range(self.num_layers):
            layer = RecurrentLayer(
                self.rnn_type, self.hidden_dim, name=f"layer_{index}"
            )
            x, layer_memory = layer(x, memory[index], is_first)
            after.append(layer_memory)
        return x, tuple(after)


def initial_memory(
    rnn_type: str, hidden_dim: int, num_layers: int, num_envs: int
) -> tuple[Any, ...]:
    """Returns the memory of each layer at the start of an episode: zeros."""
    memory = KINDS[rnn_type].memory
    return tuple(
        memory(*(jnp.zeros((num_envs, hidden_dim)) for _ in memory._fields))
        for _ in range(num_layers)
    )


def _plus(x: Array, bias: Array) -> Array:
    return x + bias.reshape((1,) * (x.ndim - 1) + bias.shape)


def _row(buffer: Array, t: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(buffer, t, axis=0, keepdims=False)
