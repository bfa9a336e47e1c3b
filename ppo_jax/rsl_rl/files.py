"""rsl_rl's policy files, `model_*.pt`, read and written. Needs torch, not rsl_rl."""

import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import jax.numpy as jnp

from ppo_jax.rsl_rl.contents import read_contents
from ppo_jax.rsl_rl.encoders import write_grids
from ppo_jax.rsl_rl.memory import import_torch, read_memory, write_memory
from ppo_jax.rsl_rl.weights import params_from_rsl_rl, params_to_rsl_rl
from ppo_jax.runs.config import Config
from ppo_jax.types import TrainState


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
        contents = read_contents(read_file(path))
        params, obs_stats = params_from_rsl_rl(config, contents.actor, contents.critic)
        return TrainState(
            params=params,
            obs_stats=obs_stats,
            opt_state=read_memory(contents, config, params),
            learning_rate=jnp.float32(contents.learning_rate),
            iteration=jnp.int32(contents.iteration + 1),
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def save_model(
    path: Path,
    config: Config,
    state: TrainState,
    image_sizes: Mapping[str, tuple[int, int]] | None = None,
) -> None:
    """Writes a `model_*.pt` that rsl_rl loads, to play it or to train on.

    Args:
      path: of the file.
      config: of the run.
      state: what was learned.
      image_sizes: {group: (height, width)}, which spatial softmaxes ask for.

    Raises:
      ImportError: torch is not installed.
      ValueError: the policy's actions are discrete, which rsl_rl has not.
    """
    torch = import_torch()
    actor, critic = params_to_rsl_rl(config, state.params, state.obs_stats)
    for model, written in ((config.actor, actor), (config.critic, critic)):
        groups = {name.split(".")[1] for name in written if name.startswith("cnns.")}
        written |= write_grids(model, sorted(groups), image_sizes or {})
    saved = {
        "actor_state_dict": {name: torch.tensor(x) for name, x in actor.items()},
        "critic_state_dict": {name: torch.tensor(x) for name, x in critic.items()},
        "optimizer_state_dict": write_memory(config, state),
        "iter": max(int(state.iteration) - 1, 0),
        "infos": None,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(saved, temporary)
    os.replace(temporary, path)


def read_file(path: Path) -> Any:
    """Returns what the file holds, on the CPU; runs no code that may be in it.

    What torch says of a file that it refuses is advice on trusting it, with escape
    codes, and is not passed on.
    """
    torch = import_torch()
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
