"""What there is to learn of a rollout: values, their targets and advantages."""

from typing import Any

import jax
import jax.numpy as jnp

from ppo_jax.learning.advantages import gae, normalize_advantage, successor_value
from ppo_jax.learning.config import PPOConfig, advantage_axis
from ppo_jax.policies.moments import variance
from ppo_jax.policies.shards import Axis
from ppo_jax.types import (
    ActorCritic,
    AdvantageFn,
    Array,
    Batch,
    Hyperparams,
    Metrics,
    Rollout,
    TrainState,
    Transition,
)


def learning_batch(
    network: ActorCritic,
    config: PPOConfig,
    state: TrainState,
    hparams: Hyperparams,
    rollout: Rollout,
    advantage_fn: AdvantageFn = gae,
    axis: Axis = None,
) -> tuple[Batch, Metrics]:
    """Returns the rollout as [T, N, ...] samples with targets and advantages.

    The target of the value is A + V. Advantages are then normalised over all T x N
    samples, unless each minibatch does it.

    Raises:
      ValueError: `advantage_fn` returns another shape than [T, N], or there is only
        one sample.
    """
    steps = rollout.steps
    read = _read_sequences if network.recurrence else _read_samples
    inputs, value, last_value = read(network, state, rollout)
    advantage = _judge(config, hparams, steps, value, last_value, advantage_fn)
    value_target = advantage + value
    advantage = value_target - value  # rounds as rsl_rl does
    if not config.normalize_advantage_per_mini_batch:
        _require_two(advantage)
        advantage = normalize_advantage(advantage, advantage_axis(config, axis))

    batch = Batch(
        obs=inputs,
        action=steps.action,
        log_prob=steps.log_prob,
        distribution=steps.distribution,
        value=value,
        value_target=value_target,
        advantage=advantage,
    )
    explained = explained_variance(value, value_target, axis)
    return batch, {"explained_variance": explained}


def explained_variance(value: Array, value_target: Array, axis: Axis = None) -> Array:
    """Returns 1 - var(R - V) / var(R); 0 where all targets are equal.

    There is nothing to explain then, and no number that would say how badly.
    """
    total = variance(value_target, axis)
    is_constant = total == 0.0
    left = variance(value_target - value, axis)
    unexplained = left / jnp.where(is_constant, 1.0, total)
    return jnp.where(is_constant, 0.0, 1.0 - unexplained)


def _read_samples(
    network: ActorCritic, state: TrainState, rollout: Rollout
) -> tuple[Any, Array, Array]:
    """Returns what the network reads of a rollout, V [T, N] of it, and V(last_obs)."""
    inputs = network.prepare(state.obs_stats, rollout.steps.obs)
    value = network.value(state.params, inputs)
    last_inputs = network.prepare(state.obs_stats, rollout.last_obs)
    return inputs, value, network.value(state.params, last_inputs)


def _read_sequences(
    network: ActorCritic, state: TrainState, rollout: Rollout
) -> tuple[Any, Array, Array]:
    """Does the same with memory: from the rollout's first one, cleared after an end.

    V(last_obs) is that of one more step, so that its memory is the right one.
    """
    assert network.recurrence
    steps, num_steps = rollout.steps, len(rollout.steps.reward)
    done = steps.terminated | steps.truncated
    is_first = jnp.concatenate([jnp.zeros_like(done[:1]), done])
    obs = jax.tree.map(
        lambda x, last: jnp.concatenate([x, last[None]]), steps.obs, rollout.last_obs
    )
    inputs = network.prepare(state.obs_stats, obs)
    unroll = network.recurrence.unroll
    value = network.value(state.params, unroll(inputs, rollout.first_carry, is_first))
    inputs = jax.tree.map(lambda x: x[:num_steps], inputs)
    inputs = unroll(inputs, rollout.first_carry, is_first[:num_steps])
    return inputs, value[:num_steps], value[num_steps]


@jax.named_scope("gae")
def _judge(
    config: PPOConfig,
    hparams: Hyperparams,
    steps: Transition,
    value: Array,
    last_value: Array,
    advantage_fn: AdvantageFn,
) -> Array:
    """Returns the advantage of each action, [T, N], as the estimator has it."""
    next_value, terminated = successor_value(
        value,
        last_value,
        steps.terminated,
        steps.truncated,
        steps.final_value,
        _bootstrap_rule(config, steps),
    )
    advantage = advantage_fn(
        steps.reward,
        value,
        next_value,
        terminated,
        steps.truncated,
        gamma=hparams.gamma,
        lam=hparams.lam,
    )
    if advantage.shape != value.shape:
        raise ValueError(
            f"advantage_fn returned the shape {advantage.shape}, but the rollout has "
            f"{value.shape}: return one number for each step of each environment"
        )
    return advantage


def _require_two(advantage: Array) -> None:
    if advantage.size < 2:
        raise ValueError(
            "num_steps_per_env = 1 and num_envs = 1 make a rollout of one sample, but "
            "advantages are divided by their standard deviation, which needs two: give "
            "more steps or more environments"
        )


def _bootstrap_rule(config: PPOConfig, steps: Transition) -> str:
    if config.timeout_bootstrap != "auto":
        return config.timeout_bootstrap
    return "last_value" if isinstance(steps.final_value, tuple) else "final_obs"
