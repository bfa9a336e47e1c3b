"""The states of environments that went wrong, in a file that can be played back.

What led to a NaN is gone when it is found, an iteration later. With `--dump_nan` the
states of the last two iterations are kept until then, and those of the environments
that went wrong are written. The file is NumPy's, without pickled objects.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppo_jax.loops.trail import Trail
from ppo_jax.runs import storage
from ppo_jax.types import RunState

FOLDER = "nan_dump"  # of a run
PARTS = ("states", "shared", "obs")  # of a dump, each by name
ROWS = ("env_ids", "action", "reward", "done")

Named = Mapping[str, np.ndarray]


class Dump(NamedTuple):
    """E environments over S steps, and where they led."""

    about: dict[str, Any]  # "task", "num_envs", "iteration", "config", ...
    env_ids: np.ndarray  # [E] which of the num_envs they are
    states: Named  # {name: [S + 1, E, ...]}
    shared: Named  # {name: [S + 1, ...]} what all environments have together
    obs: Named  # {group: [S + 1, E, ...]}
    action: np.ndarray  # [S, E, ...]
    reward: np.ndarray  # [S, E]
    done: np.ndarray  # [S, E] bool, an episode ended


def dump_of(
    trails: Sequence[Trail], run: RunState, env_ids: Sequence[int], about: dict
) -> Dump:
    """Returns what some environments in JAX went through.

    Args:
      trails: of the iterations, in order.
      run: after the last of them.
      env_ids: which environments.
      about: facts for whoever plays it back.
    """
    ids, num_envs = np.asarray(env_ids), run.episodes.episode_return.shape[0]
    last = jax.tree.map(lambda x: x[None], (run.env_state, run.obs))
    state_parts = [*(trail.env_state for trail in trails), last[0]]
    obs_parts = [*(trail.obs for trail in trails), last[1]]
    leaves = [named_leaves(part) for part in state_parts]
    joined = {name: _joined([part[name] for part in leaves]) for name in leaves[0]}
    is_own = {name: x.ndim > 1 and x.shape[1] == num_envs for name, x in joined.items()}
    return Dump(
        about,
        ids,
        states={name: x[:, ids] for name, x in joined.items() if is_own[name]},
        shared={name: x for name, x in joined.items() if not is_own[name]},
        obs={
            group: _joined([part[group] for part in obs_parts])[:, ids]
            for group in run.obs
        },
        action=_joined([trail.action for trail in trails])[:, ids],
        reward=_joined([trail.reward for trail in trails])[:, ids],
        done=_joined([trail.done for trail in trails])[:, ids],
    )


def named_leaves(tree: Any) -> dict[str, Any]:
    """Returns the arrays of a tree by their paths; of keys, the numbers in them."""
    return {
        jax.tree_util.keystr(path): jax.random.key_data(x) if is_key(x) else x
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }


def is_key(x: Any) -> bool:
    """Returns whether an array, or the shape of one, is of typed keys."""
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def bad_from(dump: Dump) -> np.ndarray:
    """Returns [E] the first step, 0 to S, with what is not finite; S + 1: none."""
    num_steps = len(dump.reward)
    bad = np.zeros((num_steps + 1, len(dump.env_ids)), bool)
    for x in [*dump.states.values(), *dump.obs.values()]:
        bad |= _bad(x)
    bad[:-1] |= _bad(dump.reward)
    return np.where(bad.any(axis=0), bad.argmax(axis=0), num_steps + 1)


def not_finite_at(dump: Dump, step: int, index: int) -> list[str]:
    """Returns the names of what is not finite in a step of an environment."""
    named = {f"obs[{group!r}]": x for group, x in dump.obs.items()}
    named |= {f"state{name}": x for name, x in dump.states.items()}
    if step < len(dump.reward):
        named["reward"] = dump.reward
    return [name for name, x in named.items() if _bad(x)[step, index]]


def save(folder: Path, dump: Dump) -> Path:
    """Writes a dump into a run's folder; returns the file.

    Raises:
      Unwritable: the folder is gone or its disk full.
    """
    path = folder / FOLDER / f"iteration_{dump.about['iteration']}.npz"
    arrays = {name: getattr(dump, name) for name in ROWS}
    for part in PARTS:
        arrays |= {f"{part}/{k}": x for k, x in getattr(dump, part).items()}
    with storage.writing(folder):
        path.parent.mkdir(exist_ok=True)
        np.savez_compressed(path, about=np.array(json.dumps(dump.about)), **arrays)
    return path


def load(path: Path) -> Dump:
    """Reads what `save` wrote.

    Raises:
      ValueError: there is no such file, or it is none of these.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
        rows: dict[str, Any] = {name: arrays.pop(name) for name in ROWS}
    except FileNotFoundError:
        raise ValueError(
            f"--dump_nan {path}: there is no such file; train.py --dump_nan writes one "
            f"into {FOLDER} in the run's folder"
        ) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"--dump_nan {path} is no file that train.py --dump_nan wrote ({error})"
        ) from None
    parts: dict[str, Any] = {
        part: {
            name.removeprefix(f"{part}/"): x
            for name, x in arrays.items()
            if name.startswith(f"{part}/")
        }
        for part in PARTS
    }
    return Dump(about=about, **rows, **parts)


def _joined(parts: Sequence[Any]) -> np.ndarray:
    return np.concatenate([np.asarray(jax.device_get(part)) for part in parts])


def _bad(x: np.ndarray) -> np.ndarray:
    """Returns [S, E] bool of [S, E, ...]; whole numbers are always finite."""
    if not np.issubdtype(x.dtype, np.inexact):
        return np.zeros(x.shape[:2], bool)
    return np.asarray(~np.isfinite(x).all(axis=tuple(range(2, x.ndim))))
