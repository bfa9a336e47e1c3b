"""`policy.onnx`: written, run by onnxruntime, and kept only if it acts the same.

Names, shapes and opset are rsl_rl's: `obs` [1, D] -> `actions` [1, A]; an LSTM has
`obs, h_in, c_in` -> `actions, h_out, c_out`, memories [layers, 1, H], a GRU no c; an
image is an input of its group's name. Inside are the normalisation and the
deterministic head; outside, what an environment does with an action: clipping and
scaling.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ppo_jax.export import trial
from ppo_jax.export.graph import build
from ppo_jax.export.networks import Actor, Group, deterministic, encode
from ppo_jax.export.trial import BATCH, TOLERANCE
from ppo_jax.loops.evaluation import Observed
from ppo_jax.policies.groups import resolve_obs_groups
from ppo_jax.runs.config import Config
from ppo_jax.runs.folders import versions
from ppo_jax.types import ActionSpace, TrainState

SUFFIX = ".onnx"


class Agreement(NamedTuple):
    """How a file compared with the policy that it was written from."""

    path: Path
    interface: str  # names and shapes
    num_observations: int
    difference: float  # largest, relative to the largest action


class Disagrees(ValueError):
    """A file does not act as its policy does, and was not written."""


def export_policy(
    path: Path,
    config: Config,
    action_space: ActionSpace,
    state: TrainState,
    observed: Observed,
    dynamic_batch: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> Agreement:
    """Writes a policy as ONNX, after onnxruntime has acted as `PPO.play` does.

    Args:
      path: of the file; its folder is made.
      config: of the run, for the networks and their observation groups.
      action_space: of the environment.
      state: what was learned.
      observed: what the policy saw, from `evaluation.observe_episodes`; the file is
        run on all of it.
      dynamic_batch: any number of observations at once, not one as rsl_rl has it.
      metadata: kept in the file beside versions, task, iteration and groups.

    Raises:
      ImportError: onnx or onnxruntime is not installed.
      Disagrees: the file acts otherwise; nothing is written.
      ValueError: the network is of a kind that cannot be written, or what was learned
        is not finite.
    """
    require_onnx()
    if path.suffix != SUFFIX:
        raise ValueError(f"{path}: name the file policy{SUFFIX}")
    _require_finite(state)
    obs: Any = {name: np.asarray(x) for name, x in observed.obs.items()}
    groups = resolve_obs_groups(config.obs_groups, obs)["actor"]
    actor = Actor(
        config=config.actor,
        params=jax.device_get(state.params["actor"]),
        stats=jax.device_get(state.obs_stats["actor"]),
        groups={name: Group(obs[name].shape[2:], obs[name].dtype) for name in groups},
        batch=BATCH if dynamic_batch else 1,
    )
    facts = _facts(config, state, actor) | dict(metadata or {})
    model = _model(actor, facts).SerializeToString()
    observed = observed._replace(obs=obs)
    found = trial.replay(model, observed, groups)
    wanted = trial.play(config, action_space, state, observed)
    reach = trial.reach_of(config, action_space)
    difference = trial.difference(found, wanted, reach)
    agreement = Agreement(path, trial.interface(model), len(wanted), difference)
    if not agreement.difference <= TOLERANCE:
        raise Disagrees(
            f"{path} was not written: over {agreement.num_observations} observations "
            f"onnxruntime acts otherwise than the policy, by {agreement.difference:.1e}"
            f" of the largest action, where {TOLERANCE:.0e} is allowed"
        )
    _write(path, model)
    return agreement


def require_onnx() -> None:
    """Raises ImportError, which says what to install, without onnx or its runtime."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "ONNX files need onnx and onnxruntime: uv sync --extra export, or "
            f"uv pip install onnx onnxruntime ({error})"
        ) from error


def _require_finite(state: TrainState) -> None:
    learned = {"params": state.params["actor"], "obs_stats": state.obs_stats["actor"]}
    for place, x in jax.tree.leaves_with_path(learned):
        if not np.isfinite(np.asarray(x)).all():
            name = jax.tree_util.keystr(place, simple=True, separator=".")
            raise ValueError(
                f"{name} of the actor is not finite: nothing is written; export an "
                "earlier checkpoint"
            )


def _facts(config: Config, state: TrainState, actor: Actor) -> dict[str, str]:
    """Returns what is known of every policy, for the file's metadata."""
    groups = [
        f"{name}:{'x'.join(map(str, x.shape))}" for name, x in actor.groups.items()
    ]
    facts = {
        "task": config.task,
        "iteration": str(int(state.iteration)),
        "observation_groups": ",".join(groups),
        "ppo_jax_version": versions()["ppo_jax"],
    }
    if config.clip_actions is not None:
        facts["clip_actions"] = f"{config.clip_actions:g}"
    return facts


def _model(actor: Actor, metadata: Mapping[str, str]) -> Any:
    encoded = encode(actor)
    head = actor.params["head"]
    outputs = deterministic(actor.config, head, encoded.features, actor.batch)
    return build(
        encoded.inputs,
        [*outputs, *encoded.memory],
        metadata,
        metadata["ppo_jax_version"],
    )


def _write(path: Path, model: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(model)
    os.replace(temporary, path)
