"""Actor and critic with memory: both through a sequence at once."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from ppo_jax.policies.memory import apply_module
from ppo_jax.policies.modules import split_memory
from ppo_jax.policies.recurrent import unroll_all
from ppo_jax.types import Params


def apply_all(
    modules: Mapping[str, nn.Module], params: Params, inputs: Any
) -> tuple[Any, ...]:
    """Returns what `apply_module` does of each, recurrent layers step by step at once.

    The gates of one network are computed beside the matrix products of the other. What
    has no recurrent layers of ours, somebody's own module for instance, is applied by
    itself.

    Args:
      modules: {name: module}.
      params: {name: parameters}.
      inputs: {name: samples, or a `types.Sequence` if the module has memory}.
    """
    split = {name: split_memory(module) for name, module in modules.items()}
    recurrent = {name: parts for name, parts in split.items() if parts}
    if recurrent:
        outputs = unroll_all(
            [layers for layers, _ in recurrent.values()],
            [params[name]["rnn"] for name in recurrent],
            [inputs[name] for name in recurrent],
        )
        inputs = {**inputs, **dict(zip(recurrent, outputs, strict=True))}
        modules = {**modules, **{name: rest for name, (_, rest) in recurrent.items()}}
    return tuple(
        apply_module(module, params[name], inputs[name])
        for name, module in modules.items()
    )
