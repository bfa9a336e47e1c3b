"""rsl_rl's policy files, `model_*.pt`, read and written. Needs torch, not rsl_rl."""

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile, is_zipfile

import jax.numpy as jnp
import optax

from ppo_jax.learning.optimizers import OPTIMIZERS
from ppo_jax.rsl_rl.weights import params_from_rsl_rl, params_to_rsl_rl
from ppo_jax.runs.config import Config
from ppo_jax.types import Params, TrainState

PARTS = ("actor_state_dict", "critic_state_dict", "optimizer_state_dict", "iter")
MODELS = PARTS[:2]


class TorchOptimizer(NamedTuple):
    """How torch calls an optimizer and what it remembers of every parameter."""

    class_name: str
    setting: str  # that no other kind has
    memory: dict[str, str]  # {here: there}


ADAM_MEMORY = {"mu": "exp_avg", "nu": "exp_avg_sq"}
TORCH_OPTIMIZERS = {
    "adam": TorchOptimizer("Adam", "betas", ADAM_MEMORY),
    "adamw": TorchOptimizer("AdamW", "betas", ADAM_MEMORY),
    "sgd": TorchOptimizer("SGD", "dampening", {}),
    "rmsprop": TorchOptimizer("RMSprop", "alpha", {"nu": "square_avg"}),
}


def load_model(path: Path, config: Config) -> TrainState:
    """Returns what rsl_rl had learned when it saved a model.

    All of it: weights, statistics of the observations, the optimizer's memory and the
    learning rate that it had come to. rsl_rl's `iter` is the index of the iteration
    after which it saved, so `iter + 1` of them are done.

    Args:
      path: of a `model_*.pt`.
      config: what it was trained with, see `config_from_rsl_rl`.

    Raises:
      ImportError: torch is not installed.
      ValueError: it is no such file, or was saved with another configuration.
    """
    saved = _read(path)
    actor, critic = (
        {name: value.numpy() for name, value in saved[part].items()} for part in MODELS
    )
    try:
        params, obs_stats = params_from_rsl_rl(config, actor, critic)
        return TrainState(
            params=params,
            obs_stats=obs_stats,
            opt_state=_read_memory(saved, config, params),
            learning_rate=jnp.float32(_settings(saved)["lr"]),
            iteration=jnp.int32(saved["iter"] + 1),
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def save_model(path: Path, config: Config, state: TrainState) -> None:
    """Writes a `model_*.pt` that rsl_rl loads, to play it or to train on.

    Raises:
      ImportError: torch is not installed.
      ValueError: the policy's actions are discrete, which rsl_rl has not.
    """
    torch = _torch()
    actor, critic = params_to_rsl_rl(config, state.params, state.obs_stats)
    saved = {
        "actor_state_dict": {name: torch.tensor(x) for name, x in actor.items()},
        "critic_state_dict": {name: torch.tensor(x) for name, x in critic.items()},
        "optimizer_state_dict": _write_memory(config, state),
        "iter": max(int(state.iteration) - 1, 0),
        "infos": None,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(saved, temporary)
    os.replace(temporary, path)


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "rsl_rl's model files need torch: uv sync --extra isaaclab, or "
            f"uv pip install torch ({error})"
        ) from error
    return torch


def _read(path: Path) -> dict[str, Any]:
    """Returns what the file holds, on the CPU; runs no code that may be in it."""
    torch = _torch()
    if not path.is_file():
        raise ValueError(f"there is no file {path}: give a model_*.pt of rsl_rl")
    if not is_zipfile(path):
        raise ValueError(f"{path} is no file of torch: give a model_*.pt of rsl_rl")
    with ZipFile(path) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise ValueError(f"{path} is an exported policy: give the model_*.pt")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{path} is no model_*.pt of rsl_rl, which holds tensors only: {reason}"
        ) from None
    if isinstance(saved, dict) and "model_state_dict" in saved:
        raise ValueError(
            f"{path} was saved by rsl_rl before version 4: give one of version 5"
        )
    missing = [
        part for part in PARTS if not isinstance(saved, dict) or part not in saved
    ]
    if missing:
        raise ValueError(
            f"{path} is no model_*.pt of rsl_rl's PPO: it has no {missing[0]!r}"
        )
    return saved


def _settings(saved: dict[str, Any]) -> dict[str, Any]:
    return saved["optimizer_state_dict"]["param_groups"][0]


def _read_memory(saved: dict[str, Any], config: Config, params: Params) -> Any:
    """Returns the optimizer's state; 0 of a parameter that never moved."""
    name = config.algorithm.optimizer
    kind, opt_state = TORCH_OPTIMIZERS[name], OPTIMIZERS[name]().init(params)
    if kind.setting not in _settings(saved):
        raise ValueError(
            f"algorithm.optimizer = {name!r}, but the model was trained with another "
            f"one, whose settings are {', '.join(_settings(saved))}: give that one"
        )
    memory = saved["optimizer_state_dict"]["state"]
    if not memory or not kind.memory:
        return opt_state
    changes: dict[str, Any] = {
        here: _as_params(saved, config, {i: x[there] for i, x in memory.items()})
        for here, there in kind.memory.items()
    }
    if optax.tree.get(opt_state, "count") is not None:
        changes["count"] = jnp.int32(max(x["step"].item() for x in memory.values()))
    return optax.tree.set(opt_state, **changes)


def _as_params(
    saved: dict[str, Any], config: Config, tensors: dict[int, Any]
) -> Params:
    """Returns {index in torch's optimizer: tensor} in the form of our parameters."""
    index, state_dicts = 0, []
    for model in MODELS:
        state_dict = {}
        for name, weight in saved[model].items():
            if not name.startswith("obs_normalizer."):
                state_dict[name] = tensors.get(index, weight * 0.0).numpy()
                index += 1
        state_dicts.append(state_dict)
    params, _ = params_from_rsl_rl(_without_statistics(config), *state_dicts)
    return params


def _write_memory(config: Config, state: TrainState) -> dict[str, Any]:
    """Returns the state dict of the torch optimizer that would go on from here."""
    torch = _torch()
    kind = TORCH_OPTIMIZERS[config.algorithm.optimizer]
    parameters = [torch.nn.Parameter(x) for x in _in_order(config, state.params)]
    optimizer = getattr(torch.optim, kind.class_name)(
        parameters, lr=float(state.learning_rate)
    )
    written = optimizer.state_dict()
    num_steps = _num_steps(config, state)
    if num_steps and kind.memory:
        memory = {
            there: _in_order(config, optax.tree.get(state.opt_state, here))
            for here, there in kind.memory.items()
        }
        written["state"] = {
            index: {"step": torch.tensor(float(num_steps))}
            | {there: tensors[index] for there, tensors in memory.items()}
            for index in range(len(parameters))
        }
    return written


def _in_order(config: Config, params: Params) -> list[Any]:
    """Returns the tensors in the order of rsl_rl's optimizer: actor, then critic."""
    torch = _torch()
    no_stats = {"actor": (), "critic": ()}
    models = params_to_rsl_rl(config, params, no_stats)
    return [torch.tensor(x) for model in models for x in model.values()]


def _num_steps(config: Config, state: TrainState) -> int:
    """Returns how many gradient steps were taken; Adam counts them."""
    algorithm = config.algorithm
    in_each = algorithm.num_learning_epochs * algorithm.num_mini_batches
    counted = optax.tree.get(state.opt_state, "count")
    return int(state.iteration) * in_each if counted is None else int(counted)


def _without_statistics(config: Config) -> Config:
    return replace(
        config,
        actor=replace(config.actor, obs_normalization=False),
        critic=replace(config.critic, obs_normalization=False),
    )
