"""A step of an LSTM and of a GRU by its gates, and the gradient of these.

Letters in the shape comments: H hidden units of a layer; the gates lie side by side, in
torch's order.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppo_jax.types import Array


class LSTMMemory(NamedTuple):
    """What a layer of an LSTM hands from step to step."""

    hidden: Array  # [N, H], also its output
    cell: Array  # [N, H]


class GRUMemory(NamedTuple):
    """What a layer of a GRU hands from step to step."""

    hidden: Array  # [N, H], also its output


def lstm_gates(from_input: Array, from_hidden: Array) -> Array:
    """Returns the gates of an LSTM, [N, 4 H], in the order i f g o.

        i, f, o = sigmoid(.), g = tanh(.) of (from_input + from_hidden)
        sigmoid(x) = 1/2 + 1/2 tanh(x / 2)

    All are a tanh: XLA vectorises one pass of it on a CPU, but not a loop that has four
    slices and an exponential of each.

    Args:
      from_input: [N, 4 H] x W_ih + b_ih.
      from_hidden: [N, 4 H] h W_hh + b_hh.

    Source: Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000, as
    torch.nn.LSTM has it.
    """
    scale, shift = _lstm_scale_and_shift(from_hidden.shape[-1])
    return shift + scale * jnp.tanh(scale * (from_input + from_hidden))


def lstm_through_gates(memory: LSTMMemory, gates: Array) -> LSTMMemory:
    """Returns the memory after a step with these gates, [N, 4 H].

    c' = f c + i g,  h' = o tanh(c')
    """
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    cell = f * memory.cell + i * g
    return LSTMMemory(o * jnp.tanh(cell), cell)


def lstm_gates_gradient(
    gates: Array, from_hidden: tuple[()], of_gates: Array
) -> tuple[Array, Array]:
    """Returns the gradient of `lstm_gates` from theirs: both [N, 4 H], and the same."""
    scale, shift = _lstm_scale_and_shift(gates.shape[-1])
    of_sum = of_gates * (jnp.square(scale) - jnp.square(gates - shift))
    return of_sum, of_sum


def _lstm_scale_and_shift(width: int) -> tuple[Array, Array]:
    """Returns [1, 4 H] a and b of b + a tanh(a x): 1/2 and 1/2, but 1 and 0 of g."""
    scale = jnp.repeat(jnp.array([0.5, 0.5, 1.0, 0.5]), width // 4)[None]
    return scale, 1.0 - scale


def gru_gates(from_input: Array, from_hidden: Array) -> Array:
    """Returns the gates of a GRU, [N, 3 H], in the order r z n.

        r, z = sigmoid(from_input + from_hidden)
        n = tanh(from_input + r from_hidden)

    Args:
      from_input: [N, 3 H] x W_ih + b_ih.
      from_hidden: [N, 3 H] h W_hh + b_hh; its bias is inside of what r multiplies.

    Source: Cho et al. 2014, arXiv:1406.1078, as torch.nn.GRU has it: r after W_hn.
    """
    r_input, z_input, n_input = jnp.split(from_input, 3, axis=-1)
    r_hidden, z_hidden, n_hidden = jnp.split(from_hidden, 3, axis=-1)
    r, z = jax.nn.sigmoid(r_input + r_hidden), jax.nn.sigmoid(z_input + z_hidden)
    return jnp.concatenate([r, z, jnp.tanh(n_input + r * n_hidden)], axis=-1)


def gru_through_gates(memory: GRUMemory, gates: Array) -> GRUMemory:
    """Returns the memory after a step with these gates, [N, 3 H].

    h' = (1 - z) n + z h
    """
    _, z, n = jnp.split(gates, 3, axis=-1)
    return GRUMemory((1.0 - z) * n + z * memory.hidden)


def gru_gates_gradient(
    gates: Array, from_hidden: Array, of_gates: Array
) -> tuple[Array, Array]:
    """Returns the gradient of `gru_gates` from theirs: of what both read, [N, 3 H]."""
    r, z, n = jnp.split(gates, 3, axis=-1)
    of_r, of_z, of_n = jnp.split(of_gates, 3, axis=-1)
    n_hidden = jnp.split(from_hidden, 3, axis=-1)[2]
    of_n = of_n * (1.0 - n * n)
    of_r = (of_r + of_n * n_hidden) * r * (1.0 - r)
    of_z = of_z * z * (1.0 - z)
    of_input = jnp.concatenate([of_r, of_z, of_n], axis=-1)
    return of_input, jnp.concatenate([of_r, of_z, of_n * r], axis=-1)


class Kind(NamedTuple):
    """A kind of recurrent layer, and the parts of its step."""

    num_gates: int
    memory: Callable[..., Any]
    gates: Callable[..., Array]  # (from_input, from_hidden)
    through_gates: Callable[..., Any]  # (memory, gates) -> memory
    gates_gradient: Callable[..., tuple[Array, Array]]
    reads_sum: bool  # of what comes from the input and from the memory, and no more

    def step(self, memory: Any, from_input: Array, from_hidden: Array) -> Any:
        """Returns the memory after a step; arguments as the gates have them."""
        return self.through_gates(memory, self.gates(from_input, from_hidden))


KINDS = {
    "lstm": Kind(
        4, LSTMMemory, lstm_gates, lstm_through_gates, lstm_gates_gradient, True
    ),
    "gru": Kind(3, GRUMemory, gru_gates, gru_through_gates, gru_gates_gradient, False),
}
