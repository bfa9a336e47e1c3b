"""LSTM and GRU with torch's gates, biases and initialisation.

Letters in the shape comments: H hidden units of a layer. All four kernels of torch's
stacked gates lie side by side in one, in torch's order.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppo_jax.policies.memory import forget
from ppo_jax.policies.mlp import product
from ppo_jax.types import Array, Key


class LSTMMemory(NamedTuple):
    """What a layer of an LSTM hands from step to step."""

    hidden: Array  # [N, H], also its output
    cell: Array  # [N, H]


class GRUMemory(NamedTuple):
    """What a layer of a GRU hands from step to step."""

    hidden: Array  # [N, H], also its output


def lstm_step(memory: LSTMMemory, from_input: Array, from_hidden: Array) -> LSTMMemory:
    """Returns the memory after a step.

        i, f, o = sigmoid(.), g = tanh(.) of (from_input + from_hidden), order i f g o
        c' = f c + i g,  h' = o tanh(c')

    Args:
      memory: before it.
      from_input: [N, 4 H] x W_ih + b_ih.
      from_hidden: [N, 4 H] h W_hh + b_hh.

    Source: Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000, as
    torch.nn.LSTM has it.
    """
    i, f, g, o = jnp.split(from_input + from_hidden, 4, axis=-1)
    cell = jax.nn.sigmoid(f) * memory.cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    return LSTMMemory(jax.nn.sigmoid(o) * jnp.tanh(cell), cell)


def gru_step(memory: GRUMemory, from_input: Array, from_hidden: Array) -> GRUMemory:
    """Returns the memory after a step.

        r, z = sigmoid(from_input + from_hidden),  order r z n
        n = tanh(from_input + r from_hidden),  h' = (1 - z) n + z h

    Args:
      memory: before it.
      from_input: [N, 3 H] x W_ih + b_ih.
      from_hidden: [N, 3 H] h W_hh + b_hh; its bias is inside of what r multiplies.

    Source: Cho et al. 2014, arXiv:1406.1078, as torch.nn.GRU has it: r after W_hn.
    """
    r_input, z_input, n_input = jnp.split(from_input, 3, axis=-1)
    r_hidden, z_hidden, n_hidden = jnp.split(from_hidden, 3, axis=-1)
    r, z = jax.nn.sigmoid(r_input + r_hidden), jax.nn.sigmoid(z_input + z_hidden)
    n = jnp.tanh(n_input + r * n_hidden)
    return GRUMemory((1.0 - z) * n + z * memory.hidden)


class Kind(NamedTuple):
    """A kind of recurrent layer."""

    num_gates: int
    memory: Callable[..., Any]
    step: Callable[..., Any]


KINDS = {
    "lstm": Kind(4, LSTMMemory, lstm_step),
    "gru": Kind(3, GRUMemory, gru_step),
}


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
        num_gates, _, one_step = KINDS[self.rnn_type]
        width, limit = num_gates * self.hidden_dim, 1.0 / math.sqrt(self.hidden_dim)

        def uniform(key: Key, shape: tuple[int, ...]) -> Array:
            return jax.random.uniform(key, shape, minval=-limit, maxval=limit)

        input_kernel = self.param("input_kernel", uniform, (x.shape[-1], width))
        hidden_kernel = self.param("hidden_kernel", uniform, (self.hidden_dim, width))
        input_bias = self.param("input_bias", uniform, (width,))
        hidden_bias = self.param("hidden_bias", uniform, (width,))
        # Of all steps at once: one large product and not T small ones.
        from_input = _plus(product(x, input_kernel), input_bias)

        def step(memory: Any, from_input: Array) -> Any:
            from_hidden = _plus(product(memory.hidden, hidden_kernel), hidden_bias)
            return one_step(memory, from_input, from_hidden)

        if is_first is None:
            memory = step(memory, from_input)
            return memory.hidden, memory

        def scanned(memory: Any, inputs: tuple[Array, Array]) -> tuple[Any, Array]:
            from_input, is_first = inputs
            memory = step(forget(memory, is_first), from_input)
            return memory, memory.hidden

        memory, hidden = jax.lax.scan(scanned, memory, (from_input, is_first))
        return hidden, memory


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
