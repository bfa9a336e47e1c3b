"""LSTM and GRU with torch's gates, biases and initialisation.

Letters in the shape comments: H hidden units of a layer.
"""

import math
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppo_jax.policies.gates import KINDS
from ppo_jax.policies.unrolling import Reading, step, unroll
from ppo_jax.types import Array, Key, Params, Sequence


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
        weights = input_kernel, hidden_kernel, input_bias, hidden_bias
        if is_first is not None:
            reading = Reading(memory, x, is_first, *weights)
            after: Any = unroll((self.rnn_type,), (reading,))
            return after[0]
        memory = step(kind, memory, x, *weights)
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


def unroll_all(
    networks: Iterable[RNN], params: Iterable[Params], inputs: Iterable[Sequence]
) -> list[Array]:
    """Returns [T, N, H], what each network makes of its sequence, all in one go.

    Args:
      networks: LSTMs and GRUs, of any sizes.
      params: of each network.
      inputs: a sequence for each, all of one length.
    """
    networks, params, inputs = [*networks], [*params], [*inputs]
    outputs = [sequence.obs for sequence in inputs]
    for index in range(max(network.num_layers for network in networks)):
        deep = [i for i, network in enumerate(networks) if index < network.num_layers]
        readings = tuple(
            Reading(
                jax.tree.map(lambda x: x[0], inputs[i].memory[index]),
                outputs[i],
                inputs[i].is_first,
                **params[i][f"layer_{index}"],
            )
            for i in deep
        )
        after: Any = unroll(tuple(networks[i].rnn_type for i in deep), readings)
        for i, (output, _) in zip(deep, after, strict=True):
            outputs[i] = output
    return outputs


def initial_memory(
    rnn_type: str, hidden_dim: int, num_layers: int, num_envs: int
) -> tuple[Any, ...]:
    """Returns the memory of each layer at the start of an episode: zeros."""
    memory = KINDS[rnn_type].memory
    return tuple(
        memory(*(jnp.zeros((num_envs, hidden_dim)) for _ in memory._fields))
        for _ in range(num_layers)
    )
