"""A file and the policy that it was written from, on the same observations."""

from collections.abc import Callable, Collection, Iterator
from typing import Any

import jax
import numpy as np

from ppo_jax.export.networks import OBS
from ppo_jax.loops.evaluation import Observed
from ppo_jax.policies.memory import forget
from ppo_jax.runs.config import Config, parts_of
from ppo_jax.types import ActionSpace, ActorCritic, Array, Discrete, TrainState

TOLERANCE = 1e-5  # relative to the largest action
BATCH = "batch"  # what a free number of observations is called in a file


def difference(found: Any, wanted: Any, reach: float = TOLERANCE) -> float:
    """Returns the largest difference, relative to the largest number wanted.

    Args:
      found: numbers of a file.
      wanted: those of the policy.
      reach: what the largest number is taken for if it is smaller.
    """
    largest = max(np.abs(wanted).max(), reach)
    return float(np.abs(found - wanted).max() / largest)


def reach_of(config: Config, action_space: ActionSpace) -> float:
    """Returns how large an action has to be for rounding to be small beside it.

    That of a Beta is rounded as the ends of its range are, also where it is near 0.
    """
    distribution = config.actor.distribution_cfg
    is_discrete = isinstance(action_space, Discrete)
    if is_discrete or not distribution or "Beta" not in distribution.class_name:
        return TOLERANCE
    return max(map(abs, distribution.action_range))


def interface(model: bytes) -> str:
    """Returns the names and shapes of what goes into a model, and comes out of it."""
    session = _open(model)
    return " -> ".join(
        ", ".join(f"{x.name} {list(x.shape)}" for x in side)
        for side in (session.get_inputs(), session.get_outputs())
    )


def replay(model: bytes, observed: Observed, groups: tuple[str, ...]) -> Any:
    """Returns what onnxruntime gives for [T, N] observations: actions or logits.

    One environment after the other where the model takes one observation at once. Its
    memory is zeros where an episode begins.

    Args:
      model: as it is written to a file.
      observed: {group: [T, N, ...]}.
      groups: that the actor reads, in order.

    Returns:
      [T * N, A], time first.
    """
    session = _open(model)
    inputs = {x.name for x in session.get_inputs()} - {OBS}
    feeds = _feeds(observed, groups, inputs)
    is_first = np.asarray(observed.is_first)
    num_steps, num_envs = is_first.shape
    size = num_envs if session.get_inputs()[0].shape[0] == BATCH else 1
    rows = []
    for start in range(0, num_envs, size):
        envs = slice(start, start + size)
        seen = {name: x[:, envs] for name, x in feeds.items()}
        rows += _episodes(session, seen, is_first[:, envs])
    rows = np.stack(rows).reshape(num_envs // size, num_steps, size, -1)
    return rows.swapaxes(0, 1).reshape(num_steps * num_envs, -1)


def _open(model: bytes) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def _feeds(
    observed: Observed, groups: tuple[str, ...], inputs: Collection[str]
) -> dict[str, Any]:
    """Returns the inputs that are observations: those of their own, the rest as one."""
    obs: Any = observed.obs
    alone = {name: obs[name] for name in groups if name in inputs}
    vectors = [obs[name].astype(np.float32) for name in groups if name not in alone]
    none = np.zeros((*observed.is_first.shape, 0), np.float32)
    return {OBS: np.concatenate([none, *vectors], axis=-1)} | alone


def _episodes(session: Any, feeds: dict[str, Any], is_first: Any) -> Iterator[Any]:
    """Yields what a session gives step by step, [B, ...]; B is what it takes at once.

    Memory is every input that no observation is meant for: `x_out` is fed as `x_in`.
    """
    outputs = [x.name for x in session.get_outputs()]
    wanted = "logits" if "logits" in outputs else "actions"
    size = is_first.shape[1]
    memory = {
        x.name: np.zeros((x.shape[0], size, x.shape[2]), np.float32)
        for x in session.get_inputs()
        if x.name not in feeds
    }
    for step, first in enumerate(is_first):
        feed = {name: x[step] for name, x in feeds.items()}
        feed |= {name: x * ~first[:, None] for name, x in memory.items()}
        found = dict(zip(outputs, session.run(None, feed), strict=True))
        memory = {name: found[f"{name.removesuffix('in')}out"] for name in memory}
        yield found[wanted]


def play(
    config: Config, action_space: ActionSpace, state: TrainState, observed: Observed
) -> Any:
    """Returns what the policy gives for the same, in full float32 on any device."""
    network, _, _ = parts_of(config, action_space)
    act = _play_episodes if network.recurrence else _play_samples
    is_discrete = isinstance(action_space, Discrete)
    with jax.default_matmul_precision("highest"):
        found = jax.jit(act, static_argnums=(0, 1))(
            network, _logits if is_discrete else _mode, state, observed
        )
    return np.asarray(found).reshape(observed.is_first.size, -1)


def _logits(distribution: Any) -> Array:
    """Returns what is compared of discrete actions: two of them may be level."""
    return distribution.logits


def _mode(distribution: Any) -> Array:
    return distribution.mode()


def _play_samples(
    network: ActorCritic,
    read: Callable[[Any], Array],
    state: TrainState,
    observed: Observed,
) -> Array:
    """Returns what is read of the policy for all observations at once, [T, N, ...]."""
    inputs = network.prepare(state.obs_stats, observed.obs)
    return read(network.policy(state.params, inputs))


def _play_episodes(
    network: ActorCritic,
    read: Callable[[Any], Array],
    state: TrainState,
    observed: Observed,
) -> Array:
    """Does the same of a policy with memory, step by step."""
    recurrence = network.recurrence
    assert recurrence

    def step(carry: Any, seen: Observed) -> tuple[Any, Array]:
        inputs = network.prepare(state.obs_stats, seen.obs)
        carry = forget(carry, seen.is_first)
        distribution, carry = recurrence.step(state.params, inputs, carry)
        return carry, read(distribution)

    first = jax.tree.map(lambda x: x[0], observed.obs)
    return jax.lax.scan(step, recurrence.initial(first), observed)[1]
