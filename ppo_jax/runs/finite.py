"""Numbers that became NaN or infinite: found on the host, and said in a sentence."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ppo_jax.runs import checkpoint

# what an update reports: how a message names it
_LEARNING = {
    "surrogate_loss": "the surrogate loss",
    "value_loss": "the value loss",
    "entropy": "the entropy",
    "behavior_loss": "the behavior loss",
    "rnd_loss": "the loss of RND",
    "symmetry_loss": "the symmetry loss",
    "kl": "the KL",
    "loss": "the loss",
    "grad_norm_actor": "the gradient of the actor",
    "grad_norm_critic": "the gradient of the critic",
    "grad_norm_student": "the gradient of the student",
}


class NotFinite(Exception):
    """A NaN or inf turned up; the message says where, and what can be used."""

    iteration: int = 0
    what: str = ""  # became so
    envs: tuple[int, ...] = ()  # that gave it, the first few; (): it was learned


def is_finite(values: Mapping[str, Any], check_env: bool) -> np.ndarray:
    """Returns where all that was learned is finite, and what the environments gave.

    Args:
      values: metrics of `iterate`, each with the same leading axes.
      check_env: look at observations and rewards as well.
    """
    finite = [np.isfinite(values[name]) for name in _LEARNING if name in values]
    if check_env:
        named = [x for name, x in values.items() if name.startswith("nonfinite/")]
        finite += [np.asarray(x)[..., 0] < 0 for x in named]
    return np.logical_and.reduce(finite)


def require_finite(
    values: dict[str, Any], iteration: int, folder: Path, check_env: bool
) -> None:
    """Raises NotFinite where something is not; what came from the environment first."""
    for name, envs in values.items():
        if check_env and name.startswith("nonfinite/") and envs[0] >= 0:
            named = [int(env) for env in envs if env >= 0]
            more = " and maybe more" if len(named) == len(envs) else ""
            what = (
                f"{name.removeprefix('nonfinite/')} of the environments {named}{more}"
            )
            raise not_finite(folder, iteration, what, named)
    bad = [
        words
        for name, words in _LEARNING.items()
        if not np.isfinite(values.get(name, 0))
    ]
    if bad:
        raise not_finite(folder, iteration, " and ".join(bad))


def not_finite(
    folder: Path, iteration: int, what: str, envs: Sequence[int] = ()
) -> NotFinite:
    """Returns the error that says what broke, when, and what can still be used."""
    error = NotFinite(
        f"in iteration {iteration} {what} became NaN or infinite; training stopped and "
        f"nothing of it was saved. {checkpoint.last_good(folder)}"
    )
    error.iteration, error.what, error.envs = iteration, what, tuple(envs)
    return error
