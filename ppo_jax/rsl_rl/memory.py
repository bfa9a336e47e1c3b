"""What torch's optimizers remember, as the state of ours, and back."""

import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ppo_jax.learning.shared_parts import (
    TwiceState,
    init_optimizer,
    join,
    moves_twice,
    split,
)
from ppo_jax.rsl_rl.contents import Contents, require_memory_fits
from ppo_jax.rsl_rl.weights import params_from_rsl_rl, params_to_rsl_rl, shared_of
from ppo_jax.runs.config import Config
from ppo_jax.types import Params, TrainState


class TorchOptimizer(NamedTuple):
    """How torch calls an optimizer and what it remembers of every parameter."""

    class_name: str
    setting: str  # that no other kind has
    memory: dict[str, str]  # {here: there}
    counts: bool = False  # whether ours counts its steps; torch's do


ADAM_MEMORY = {"mu": "exp_avg", "nu": "exp_avg_sq"}
TORCH_OPTIMIZERS = {
    "adam": TorchOptimizer("Adam", "betas", ADAM_MEMORY, counts=True),
    "adamw": TorchOptimizer("AdamW", "betas", ADAM_MEMORY, counts=True),
    "sgd": TorchOptimizer("SGD", "dampening", {}),
    "rmsprop": TorchOptimizer("RMSprop", "alpha", {"nu": "square_avg"}),
}
NO_STATISTICS = {"actor": (), "critic": ()}


def read_memory(contents: Contents, config: Config, params: Params) -> Any:
    """Returns the optimizer's state; 0 of a parameter that never moved.

    Raises:
      ValueError: it is another optimizer's, or of other parameters.
    """
    name = config.algorithm.optimizer
    kind, shared = TORCH_OPTIMIZERS[name], shared_of(config)
    if kind.setting not in contents.settings:
        raise ValueError(
            f"algorithm.optimizer = {name!r}, but the model was trained with another "
            f"one, whose settings are {', '.join(map(str, contents.settings))}: give "
            "that one"
        )
    require_memory_fits(contents)
    memory, empty = contents.memory, init_optimizer(shared, config.ppo, params)
    if not memory or not kind.memory:
        return empty
    wanted = {*kind.memory.values(), *(["step"] if kind.counts else [])}
    for index, kept in memory.items():
        for missing in sorted(wanted - kept.keys()):
            raise ValueError(f"the optimizer has no {missing!r} of parameter {index}")

    def tree(key: str) -> Params:
        """Returns what is kept under a key, in the form of our parameters."""
        shapes = [array.shape for *_, array in contents.parameters]
        kept = {i: np.broadcast_to(x[key], shapes[i]) for i, x in memory.items()}
        return _as_params(contents, config, kept)

    moments = {here: tree(there) for here, there in kind.memory.items()}
    own, both = split(shared, tree("step")) if kind.counts else ({}, {})
    if not moves_twice(shared, config.ppo):
        return _filled(empty, moments, own)
    parts = {here: split(shared, moment) for here, moment in moments.items()}
    return TwiceState(
        _filled(empty.own, {here: part[0] for here, part in parts.items()}, own),
        _filled(empty.shared, {here: part[1] for here, part in parts.items()}, both),
    )


def _filled(empty: Any, moments: dict[str, Params], steps: Params) -> Any:
    """Returns an optimizer's state that remembers, and has counted the most steps."""
    counted = [float(x.max()) for x in jax.tree.leaves(steps) if x.size]
    count = {"count": jnp.int32(max(counted))} if counted else {}
    return optax.tree.set(empty, **moments, **count)


def _as_params(
    contents: Contents, config: Config, arrays: dict[int, np.ndarray]
) -> Params:
    """Returns {place in torch's optimizer: array} in the form of our parameters."""
    state_dicts: dict[str, Any] = {"actor": {}, "critic": {}}
    for index, (model, name, weight) in enumerate(contents.parameters):
        state_dicts[model][name] = arrays.get(index, np.zeros_like(weight))
    params, _ = params_from_rsl_rl(_without_statistics(config), **state_dicts)
    return params


def write_memory(config: Config, state: TrainState) -> dict[str, Any]:
    """Returns the state dict of the torch optimizer that would go on from here."""
    torch = import_torch()
    kind = TORCH_OPTIMIZERS[config.algorithm.optimizer]
    with warnings.catch_warnings():  # torch warns of what rsl_rl does
        warnings.filterwarnings("ignore", message=".*duplicate parameters")
        optimizer = getattr(torch.optim, kind.class_name)(
            _parameters(config, state.params), lr=float(state.learning_rate)
        )
    written = optimizer.state_dict()
    steps = _num_steps(config, state)
    if not kind.memory or not any(map(float, jax.tree.leaves(steps))):
        return written
    moments = {
        there: _in_order(config, _moment(state.opt_state, here))
        for here, there in kind.memory.items()
    }
    filled = jax.tree.map(lambda p, n: np.full(p.shape, n, "f4"), state.params, steps)
    counts = _in_order(config, filled)
    for place, number in enumerate(written["param_groups"][0]["params"]):
        written["state"][number] = {"step": counts[place].max()} | {
            there: tensors[place] for there, tensors in moments.items()
        }
    return written


def _parameters(config: Config, params: Params) -> list[Any]:
    """Returns rsl_rl's list of parameters, in which what is shared stands twice."""
    torch = import_torch()
    actor, critic = params_to_rsl_rl(config, params, NO_STATISTICS)
    made = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in actor.items()}
    both = tuple(f"{part}." for part in shared_of(config))
    for_critic = [
        made[name] if name.startswith(both) else torch.nn.Parameter(torch.tensor(x))
        for name, x in critic.items()
    ]
    return [*made.values(), *for_critic]


def _in_order(config: Config, params: Params) -> list[Any]:
    """Returns the tensors in the order of rsl_rl's optimizer: actor, then critic."""
    torch = import_torch()
    models = params_to_rsl_rl(config, params, NO_STATISTICS)
    return [torch.tensor(x) for model in models for x in model.values()]


def _moment(opt_state: Any, name: str) -> Params:
    """Returns what an optimizer's state remembers of all parameters."""
    if not isinstance(opt_state, TwiceState):
        return optax.tree.get(opt_state, name)
    return join(*(optax.tree.get(part, name) for part in opt_state))


def _num_steps(config: Config, state: TrainState) -> Params:
    """Returns how many steps each parameter has taken; Adam counts them."""
    algorithm = config.ppo
    in_each = algorithm.num_learning_epochs * algorithm.num_mini_batches

    def counted(opt_state: Any, params: Params, steps: int = 1) -> Params:
        count = optax.tree.get(opt_state, "count")
        if count is None:
            count = int(state.iteration) * in_each * steps
        return jax.tree.map(lambda _: int(count), params)

    if not isinstance(state.opt_state, TwiceState):
        return counted(state.opt_state, state.params)
    own, both = split(shared_of(config), state.params)
    return join(
        counted(state.opt_state.own, own), counted(state.opt_state.shared, both, 2)
    )


def _without_statistics(config: Config) -> Config:
    return replace(
        config,
        actor=replace(config.actor, obs_normalization=False),
        critic=replace(config.critic, obs_normalization=False),
    )


def import_torch() -> Any:
    """Returns torch.

    Raises:
      ImportError: it is not installed; says how it would be.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "rsl_rl's model files need torch: uv sync --extra isaaclab, or "
            f"uv pip install torch ({error})"
        ) from error
    return torch
