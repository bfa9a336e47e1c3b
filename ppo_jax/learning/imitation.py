"""What a student learns from one rollout: passes over its steps in time order.

A gradient step follows after every `gradient_length` steps, all environments at once:
with memory, backpropagation through time is cut there. The order and the numbers are
those of rsl_rl 5.5.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppo_jax.learning.config import DistillationConfig, require_a_step
from ppo_jax.learning.gradient_steps import clip_gradient
from ppo_jax.learning.minibatches import mean_of_parts, micro_batches
from ppo_jax.learning.optimizers import OPTIMIZERS
from ppo_jax.policies.memory import forget
from ppo_jax.policies.precision import in_bfloat16
from ppo_jax.policies.shards import Axis, mean_over
from ppo_jax.types import (
    ActorCritic,
    Array,
    Hyperparams,
    Metrics,
    Params,
    Rollout,
    TrainState,
)

STUDENT, TEACHER = "student", "teacher"


class Window(NamedTuple):
    """`gradient_length` steps in time order."""

    inputs: Any  # [G, N, ...] what the student reads
    target: Array  # [G, N, A]
    is_first: Array  # [G, N] bool, where an episode begins
    is_start: Array  # [G] bool, where the rollout begins again


def update(
    student: ActorCritic,
    config: DistillationConfig,
    state: TrainState,
    hparams: Hyperparams,
    rollout: Rollout,
    axis: Axis = None,
) -> tuple[TrainState, Any, Metrics]:
    """Learns from one rollout: passes over its T steps in time order.

    The count of steps runs on from pass to pass. What is left over after the last
    gradient step is looked at, and not learned from, as in rsl_rl. Statistics of the
    student's observations move after the last step; the teacher's never do.

    Args:
      student: whose policy learns.
      config: what fixes shapes and control flow.
      state: that acted.
      hparams: learning_rate and max_grad_norm are read.
      rollout: [T, N, ...], with the teacher's actions.
      axis: of the shards that learn together, see `make_ppo`.

    Returns:
      The new state, the student's memory after the last pass, and means over all
      steps of all passes.

    Raises:
      ValueError: there are fewer steps than one gradient step needs.
    """
    require_a_step(config, len(rollout.steps.reward))
    learned, memory, loss_sum, norms = _passes(
        student, config, state, hparams, rollout, axis
    )
    steps = rollout.steps
    num_steps = config.num_learning_epochs * len(steps.reward)
    behavior_loss = mean_over(axis, loss_sum / num_steps)
    metrics = {
        "behavior_loss": behavior_loss,
        "loss": behavior_loss,
        "grad_norm_student": norms.mean(),
        "mean_std": mean_over(axis, steps.distribution.spread()[-1].mean()),
        "learning_rate": jnp.asarray(hparams.learning_rate, jnp.float32),
    }
    along = {"axis": axis} if axis else {}
    stats = student.update_stats(state.obs_stats[STUDENT], steps.obs, **along)
    params, opt_state = learned
    state = state._replace(
        params=state.params | {STUDENT: params},
        obs_stats=state.obs_stats | {STUDENT: stats},
        opt_state=opt_state,
        learning_rate=metrics["learning_rate"],
        iteration=state.iteration + 1,
    )
    return state, memory, metrics


def _passes(
    student: ActorCritic,
    config: DistillationConfig,
    state: TrainState,
    hparams: Hyperparams,
    rollout: Rollout,
    axis: Axis,
) -> tuple[tuple[Params, Any], Any, Array, Array]:
    """Goes `num_learning_epochs` times over the rollout, see `update`.

    Returns:
      Parameters and the optimizer's state, the memory after the last step, the sum of
      the losses of all steps, and the norms of all gradients.
    """
    network = in_bfloat16(student) if config.precision == "bfloat16" else student
    steps, num_steps = rollout.steps, len(rollout.steps.reward)
    inputs = network.prepare(state.obs_stats[STUDENT], steps.obs)
    done = steps.terminated | steps.truncated
    is_first = jnp.concatenate([jnp.zeros_like(done[:1]), done[:-1]])
    first_memory, _ = memories(rollout.first_carry)
    loss_of = partial(_window_loss, network, LOSSES[config.loss_type])
    read = inputs, steps.target, is_first

    def window(number: Array, length: int) -> Window:
        index = (number * config.gradient_length + jnp.arange(length)) % num_steps
        return Window(*jax.tree.map(lambda x: x[index], read), is_start=index == 0)

    def step(carry: Any, number: Array) -> Any:
        learned, memory = carry
        found = window(number, config.gradient_length)
        learned, memory, losses, norm = _gradient_step(
            config, loss_of, hparams, learned, (memory, first_memory), found, axis
        )
        return (learned, memory), (losses, norm)

    total = config.num_learning_epochs * num_steps
    num_windows, left_over = divmod(total, config.gradient_length)
    learned = state.params[STUDENT], state.opt_state
    (learned, memory), (losses, norms) = jax.lax.scan(
        step, (learned, first_memory), jnp.arange(num_windows)
    )
    loss_sum = losses.sum()
    if left_over:
        rest = window(jnp.asarray(num_windows), left_over)
        loss, memory = loss_of(learned[0], (memory, first_memory), rest)
        loss_sum += loss
    return learned, forget(memory, done[-1]), loss_sum, norms


def _gradient_step(
    config: DistillationConfig,
    loss_of: Callable[..., Any],
    hparams: Hyperparams,
    learned: tuple[Params, Any],
    memory: tuple[Any, Any],
    window: Window,
    axis: Axis,
) -> tuple[tuple[Params, Any], Any, Array, Array]:
    """Takes one gradient step on the sum of the losses of a window's steps."""
    params, opt_state = learned
    take = partial(jax.value_and_grad(loss_of, has_aux=True), params)
    (loss, memory), gradient = _in_parts(take, memory, window, config.micro_batches)
    gradient = mean_over(axis, gradient)
    gradient, norm = clip_gradient(gradient, hparams.max_grad_norm)
    direction, opt_state = OPTIMIZERS[config.optimizer]().update(
        gradient, opt_state, params
    )
    direction = _without_spread(direction)
    params = jax.tree.map(lambda p, d: p - hparams.learning_rate * d, params, direction)
    return (params, opt_state), memory, loss, norm


def _in_parts(
    take: Callable[..., Any], memory: tuple[Any, Any], window: Window, num_parts: int
) -> Any:
    """Returns ((loss, memory after), gradient) of a window, its environments in parts.

    Windows are cut across environments, never in time: each has its own memory.
    """
    if num_parts == 1:
        return take(memory, window)
    cut = window._replace(is_start=())  # the same for all environments
    parts = micro_batches(cut, num_parts, 1), micro_batches(memory, num_parts, 0)

    def of_part(part: Any) -> tuple[Any, Any]:
        cut, memory = part
        whole = cut._replace(is_start=window.is_start)
        (loss, memory), gradient = take(memory, whole)
        return (loss, gradient), memory

    (loss, gradient), after = mean_of_parts(of_part, parts)
    return (loss, after), gradient


def _window_loss(
    network: ActorCritic,
    loss_fn: Callable[[Array], Array],
    params: Params,
    memory: tuple[Any, Any],
    window: Window,
) -> tuple[Array, Any]:
    """Returns the sum over G steps of the mean loss of each, and the memory after.

    Args:
      network: the student.
      loss_fn: of an error, element by element.
      params: of the student.
      memory: before the window, and where the rollout begins, [N, ...].
      window: of G steps.
    """
    memory, first_memory = memory
    if network.recurrence is None:
        action = network.policy(params, window.inputs).mode()
        return loss_fn(action - window.target).mean(axis=(1, 2)).sum(), memory
    take = network.recurrence.step

    def step(memory: Any, x: Window) -> tuple[Any, Array]:
        memory = forget(memory, x.is_first)
        memory = jax.tree.map(
            lambda first, m: jnp.where(x.is_start, first, m), first_memory, memory
        )
        policy, memory = take(params, x.inputs, memory)
        return memory, loss_fn(policy.mode() - x.target).mean()

    memory, losses = jax.lax.scan(step, memory, window)
    return losses.sum(), memory


def huber(error: Array) -> Array:
    """Returns error^2 / 2 where it is at most 1 in size, and |error| - 1/2 beyond."""
    size = jnp.abs(error)
    return jnp.where(size <= 1.0, 0.5 * error * error, size - 0.5)


LOSSES: dict[str, Callable[[Array], Array]] = {"mse": jnp.square, "huber": huber}


def memories(carry: Any) -> tuple[Any, Any]:
    """Returns the memory of the student and that of the teacher."""
    return (carry[STUDENT], carry[TEACHER]) if carry else ((), ())


def _without_spread(direction: Params) -> Params:
    """Returns the direction with 0 for a standard deviation of its own.

    The deterministic action does not depend on it, so that torch's optimizers, weight
    decay included, pass it by.
    """
    head = direction.get("actor", {}).get("head", {})
    spread = head.get("spread", {})
    if isinstance(spread, dict):  # a layer, that depends on the observation
        return direction
    head = head | {"spread": jnp.zeros_like(spread)}
    return direction | {"actor": direction["actor"] | {"head": head}}
