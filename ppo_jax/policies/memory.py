"""How modules with memory take steps, read sequences, and forget."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ppo_jax.types import Array, Distribution, Key, Obs, Params, Recurrence, Sequence


def forget(memory: Any, done: Array) -> Any:
    """Returns the memory as zeros where an episode ended: the next one starts there.

    Args:
      memory: any tree of [N, ...]; () stays.
      done: [N] bool.
    """

    def clear(x: Array) -> Array:
        return jnp.where(done.reshape(done.shape + (1,) * (x.ndim - 1)), 0, x)

    return jax.tree.map(clear, memory)


def remembers(module: Any) -> bool:
    """Returns whether a flax module has memory; `from_modules` says what that means."""
    return hasattr(module, "initial_memory")


def init_module(module: Any, key: Key, x: Array) -> Params:
    """Returns the parameters of a module that reads [N, D]."""
    memory = (module.initial_memory(len(x)),) if remembers(module) else ()
    return module.init(key, x, *memory)["params"]


def apply_module(module: Any, params: Params, inputs: Any) -> Any:
    """Returns a module's output for samples or, if it has memory, for sequences."""
    if not remembers(module):
        return module.apply({"params": params}, inputs)
    if not isinstance(inputs, Sequence):
        raise ValueError(
            "this network has memory and reads sequences: give what "
            "network.recurrence.unroll returns, or take a network.recurrence.step"
        )
    memory = jax.tree.map(lambda x: x[0], inputs.memory)
    return module.apply({"params": params}, inputs.obs, memory, inputs.is_first)[0]


def recurrence_of(
    modules: Mapping[str, Any], whole: Callable[[Params], Params]
) -> Recurrence | None:
    """Returns how actor and critic remember; None where neither does.

    Args:
      modules: {"actor": ..., "critic": ...}.
      whole: from the network's parameters to those that each of them reads.
    """
    if not any(map(remembers, modules.values())):
        return None

    def initial(obs: Obs) -> Any:
        num_envs = len(jax.tree.leaves(obs)[0])
        return {
            name: module.initial_memory(num_envs) if remembers(module) else ()
            for name, module in modules.items()
        }

    def step(params: Params, inputs: Any, carry: Any) -> tuple[Distribution, Any]:
        params, outputs, after = whole(params), {}, {}
        for name, module in modules.items():
            if name == "actor" or remembers(module):  # no value is needed to act
                outputs[name], after[name] = _step(
                    module, params[name], inputs[name], carry[name]
                )
            else:
                after[name] = ()
        return outputs["actor"], after

    def value(params: Params, inputs: Any, carry: Any) -> Array:
        parts = (part["critic"] for part in (whole(params), inputs, carry))
        return _step(modules["critic"], *parts)[0]

    def unroll(inputs: Any, carry: Any, is_first: Array) -> Any:
        first = jax.tree.map(lambda x: x[None], carry)
        return {
            name: Sequence(inputs[name], first[name], is_first)
            if remembers(module)
            else inputs[name]
            for name, module in modules.items()
        }

    return Recurrence(initial, step, value, unroll)


def _step(module: Any, params: Params, x: Array, memory: Any) -> tuple[Any, Any]:
    """Returns a module's output for one step, and its memory after it."""
    if remembers(module):
        return module.apply({"params": params}, x, memory)
    return module.apply({"params": params}, x), ()
