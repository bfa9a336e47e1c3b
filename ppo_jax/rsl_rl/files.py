"""rsl_rl's policy files, `model_*.pt`, read and written. Needs torch, not rsl_rl."""

import os
import re
import warnings
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile, is_zipfile

import jax.numpy as jnp
import numpy as np
import optax

from ppo_jax.learning.optimizers import OPTIMIZERS
from ppo_jax.rsl_rl.contents import Contents, read_contents, require_memory_fits
from ppo_jax.rsl_rl.weights import params_from_rsl_rl, params_to_rsl_rl
from ppo_jax.runs.config import Config
from ppo_jax.types import Params, TrainState


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
    try:
        contents = read_contents(_read(path))
        params, obs_stats = params_from_rsl_rl(config, contents.actor, contents.critic)
        return TrainState(
            params=params,
            obs_stats=obs_stats,
            opt_state=_read_memory(contents, config, params),
            learning_rate=jnp.float32(contents.learning_rate),
            iteration=jnp.int32(contents.iteration + 1),
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


def _read(path: Path) -> Any:
    """Returns what the file holds, on the CPU; runs no code that may be in it.

    What torch says of a file that it refuses is advice on trusting it, with escape
    codes, and is not passed on.
    """
    torch = _torch()
    if not path.exists():
        raise ValueError("there is no such file: give a model_*.pt of rsl_rl")
    if path.is_dir():
        raise ValueError("it is a folder: give a model_*.pt in it")
    if not is_zipfile(path):
        raise ValueError("it is no file of torch, or a damaged one")
    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
            if archive.testzip() is not None:  # torch does not look at its sums
                raise BadZipFile
        if any(name.endswith("/constants.pkl") for name in names):
            raise _Exported
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except _Exported:
        raise ValueError("it is an exported policy: give the model_*.pt") from None
    except Exception as error:  # torch documents none, and raises a dozen
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found or isinstance(error, UnpicklingError):
            what = f", but an object of {found[1]}" if found else ""
            raise ValueError(
                "it is no model_*.pt of rsl_rl, which holds tensors only"
                f"{what}; nothing of it was run"
            ) from None
        raise ValueError("it is no file of torch, or a damaged one") from None


class _Exported(Exception):
    """The file is a program of torch."""


def _read_memory(contents: Contents, config: Config, params: Params) -> Any:
    """Returns the optimizer's state; 0 of a parameter that never moved."""
    name = config.algorithm.optimizer
    kind, opt_state = TORCH_OPTIMIZERS[name], OPTIMIZERS[name]().init(params)
    if kind.setting not in contents.settings:
        raise ValueError(
            f"algorithm.optimizer = {name!r}, but the model was trained with another "
            f"one, whose settings are {', '.join(map(str, contents.settings))}: give "
            "that one"
        )
    require_memory_fits(contents)
    memory = contents.memory
    if not memory or not kind.memory:
        return opt_state
    counts = optax.tree.get(opt_state, "count") is not None
    wanted = {*kind.memory.values(), *(["step"] if counts else [])}
    for index, kept in memory.items():
        for missing in sorted(wanted - kept.keys()):
            raise ValueError(f"the optimizer has no {missing!r} of parameter {index}")
    changes: dict[str, Any] = {
        here: _as_params(contents, config, {i: x[there] for i, x in memory.items()})
        for here, there in kind.memory.items()
    }
    if counts:
        changes["count"] = jnp.int32(max(x["step"].item() for x in memory.values()))
    return optax.tree.set(opt_state, **changes)


def _as_params(
    contents: Contents, config: Config, arrays: dict[int, np.ndarray]
) -> Params:
    """Returns {index in torch's optimizer: array} in the form of our parameters."""
    state_dicts: dict[str, Any] = {"actor": {}, "critic": {}}
    for index, (model, name, weight) in enumerate(contents.parameters):
        state_dicts[model][name] = arrays.get(index, np.zeros_like(weight))
    params, _ = params_from_rsl_rl(_without_statistics(config), **state_dicts)
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
