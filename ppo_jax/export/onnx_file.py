"""`policy.onnx`: written, run by onnxruntime, and kept only if it acts the same.

Names, shapes and opset are rsl_rl's: `obs` [1, D] -> `actions` [1, A]. Inside are the
normalisation and the deterministic head; outside, what an environment does with an
action: clipping and scaling.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ppo_jax.export.graph import build
from ppo_jax.export.networks import Actor, deterministic, encode
from ppo_jax.learning.ppo import make_ppo
from ppo_jax.loops.evaluation import Observed
from ppo_jax.policies.groups import resolve_obs_groups
from ppo_jax.runs.config import Config, parts_of
from ppo_jax.runs.folders import versions
from ppo_jax.types import ActionSpace, Discrete, TrainState

SUFFIX = ".onnx"
TOLERANCE = 1e-5  # relative to the largest action
BATCH = "batch"  # what a free number of observations is called in the file


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
    """Writes a policy as ONNX, after onnxruntime has acted as `PPO.mode` does.

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
        shapes={name: obs[name].shape[2:] for name in groups},
        batch=BATCH if dynamic_batch else 1,
    )
    facts = _facts(config, state, actor) | dict(metadata or {})
    model = _model(actor, facts).SerializeToString()
    agreement = _compare(
        path, model, config, action_space, state, observed._replace(obs=obs), groups
    )
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
    groups = [f"{name}:{'x'.join(map(str, x))}" for name, x in actor.shapes.items()]
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


def _compare(
    path: Path,
    model: bytes,
    config: Config,
    action_space: ActionSpace,
    state: TrainState,
    observed: Observed,
    groups: tuple[str, ...],
) -> Agreement:
    """Runs a model on all that was observed, beside the policy itself."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    theirs = _replay(session, observed, groups)
    ours = _played(config, action_space, state, observed)
    difference = np.abs(theirs - ours).max() / max(np.abs(ours).max(), TOLERANCE)
    ends = [
        ", ".join(f"{x.name} {list(x.shape)}" for x in side)
        for side in (session.get_inputs(), session.get_outputs())
    ]
    return Agreement(path, " -> ".join(ends), len(ours), float(difference))


def _replay(session: Any, observed: Observed, groups: tuple[str, ...]) -> Any:
    """Returns what a session gives for [T, N] observations: actions or logits.

    One environment after the other where the session takes one observation at once.
    Memory is every input that no observation is meant for: `x_in` is fed with `x_out`,
    and with zeros where an episode begins.
    """
    obs: Any = observed.obs
    is_first = np.asarray(observed.is_first)
    vectors = [obs[name] for name in groups if obs[name].ndim == 3]
    feeds = {name: obs[name] for name in groups if obs[name].ndim > 3}
    feeds["obs"] = np.concatenate(vectors, axis=-1)
    outputs = [x.name for x in session.get_outputs()]
    memories = [x for x in session.get_inputs() if x.name.endswith("_in")]
    num_steps, num_envs = is_first.shape
    size = num_envs if session.get_inputs()[0].shape[0] == BATCH else 1
    wanted = outputs.index("logits" if "logits" in outputs else "actions")
    rows = []
    for start in range(0, num_envs, size):
        envs = slice(start, start + size)
        memory = {
            x.name: np.zeros((x.shape[0], size, x.shape[2]), np.float32)
            for x in memories
        }
        for step in range(num_steps):
            goes_on = ~is_first[step, envs, None]
            feed = {name: x[step, envs] for name, x in feeds.items()}
            feed |= {name: x * goes_on for name, x in memory.items()}
            found = session.run(None, feed)
            for name in memory:
                memory[name] = found[outputs.index(name.replace("_in", "_out"))]
            rows.append(found[wanted])
    rows = np.stack(rows).reshape(num_envs // size, num_steps, size, -1)
    return rows.swapaxes(0, 1).reshape(num_steps * num_envs, -1)


def _played(
    config: Config, action_space: ActionSpace, state: TrainState, observed: Observed
) -> Any:
    """Returns what the policy gives for the same, in full float32 on any device."""
    network, ppo_config, _ = parts_of(config, action_space)
    ppo = make_ppo(network, ppo_config)
    flat: Any = {name: x.reshape(-1, *x.shape[2:]) for name, x in observed.obs.items()}
    with jax.default_matmul_precision("highest"):
        if isinstance(action_space, Discrete):
            inputs = network.prepare(state.obs_stats, flat)
            return np.asarray(jax.jit(network.policy)(state.params, inputs).logits)
        return np.asarray(jax.jit(ppo.mode)(state, flat))


def _write(path: Path, model: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(model)
    os.replace(temporary, path)
