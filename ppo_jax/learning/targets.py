"""What there is to learn of a rollout: values, their targets and advantages."""

from ppo_jax.learning.advantages import gae, normalize_advantage, successor_value
from ppo_jax.learning.config import PPOConfig
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
) -> tuple[Batch, Metrics]:
    """Returns the rollout as [T, N, ...] samples with targets and advantages.

    The target of the value is A + V. Advantages are then normalised over all T x N
    samples, unless each minibatch does it.

    Raises:
      ValueError: `advantage_fn` returns another shape than [T, N].
    """
    steps = rollout.steps
    inputs = network.prepare(state.obs_stats, steps.obs)
    value = network.value(state.params, inputs)
    last_inputs = network.prepare(state.obs_stats, rollout.last_obs)
    last_value = network.value(state.params, last_inputs)
    advantage = _judge(config, hparams, steps, value, last_value, advantage_fn)
    value_target = advantage + value
    advantage = value_target - value  # rounds as rsl_rl does
    if not config.normalize_advantage_per_mini_batch:
        advantage = normalize_advantage(advantage)

    batch = Batch(
        obs=inputs,
        action=steps.action,
        log_prob=steps.log_prob,
        distribution=steps.distribution,
        value=value,
        value_target=value_target,
        advantage=advantage,
    )
    unexplained = (value_target - value).var() / (value_target.var() + 1e-8)
    return batch, {"explained_variance": 1.0 - unexplained}


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


def _bootstrap_rule(config: PPOConfig, steps: Transition) -> str:
    if config.timeout_bootstrap != "auto":
        return config.timeout_bootstrap
    return "last_value" if isinstance(steps.final_value, tuple) else "final_obs"
