"""Distillation: a student learns to act as a teacher does, on what the student sees.

The student acts, and of every step the teacher's deterministic action is kept: the
target of the update, which is in `imitation`.

Source: Ross et al. 2011, arXiv:1011.0686, with the student always acting.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppo_jax.learning import acting
from ppo_jax.learning.config import DistillationConfig
from ppo_jax.learning.imitation import STUDENT, TEACHER, memories, update
from ppo_jax.learning.optimizers import OPTIMIZERS
from ppo_jax.policies.precision import in_full_float32
from ppo_jax.policies.shards import Axis
from ppo_jax.types import (
    ActorCritic,
    Array,
    Hyperparams,
    Key,
    Metrics,
    Obs,
    Params,
    PolicyOutput,
    Rollout,
    TimeStep,
    TrainState,
    Transition,
)


class Distillation(NamedTuple):
    """Distillation bound to two networks and a configuration, in the form of `PPO`.

    `params` and `obs_stats` of its `TrainState` are {"student": ..., "teacher": ...},
    and so is the memory, where one of them has any.
    """

    init: Callable[[Key, Obs, Hyperparams], TrainState]
    initial_carry: Callable[[Obs], Any]  # memory where episodes begin; () without one
    act: Callable[..., PolicyOutput]  # (state, obs, key, carry=())
    mode: Callable[[TrainState, Obs], Array]  # -> the student's deterministic action
    play: Callable[[TrainState, Obs, Any], tuple[Array, Any]]  # as mode, with a carry
    observe: Callable[[TrainState, Obs, PolicyOutput, TimeStep], Transition]
    update: Callable[
        [TrainState, Hyperparams, Rollout, Key], tuple[TrainState, Metrics]
    ]
    rnd: None = None
    # as update, and the memory that the next rollout goes on from; None: as it acted
    update_with_memory: Callable[..., tuple[TrainState, Any, Metrics]] | None = None


class Learned(NamedTuple):
    """What a policy has learned: its own parts of a `TrainState`."""

    params: Params
    obs_stats: Any


def make_distillation(
    student: ActorCritic,
    teacher: ActorCritic,
    config: DistillationConfig = DistillationConfig(),
    learned: Learned | None = None,
    axis: Axis = None,
) -> Distillation:
    """Returns distillation as pure functions.

    Args:
      student: whose policy learns; a value function is left alone.
      teacher: whose policy is imitated.
      config: what fixes shapes and control flow.
      learned: of the teacher, from `policy_of` a state of PPO. None draws its weights:
        give them afterwards, `with_teacher`.
      axis: of the shards that learn together, see `make_ppo`.
    """
    remembers = student.recurrence or teacher.recurrence
    learn = partial(update, student, config, axis=axis)
    as_rsl_rl = config.rsl_rl_memory and remembers
    again = partial(_update_with_memory, learn, teacher) if as_rsl_rl else None
    distillation = Distillation(
        init=partial(init, student, teacher, config, learned),
        initial_carry=partial(initial_carry, student, teacher),
        act=partial(act, student, teacher),
        mode=partial(mode, student),
        play=partial(play, student),
        observe=observe,
        update=partial(_without_memory, learn),
        update_with_memory=again,
    )
    if config.precision == "highest":
        return jax.tree.map(in_full_float32, distillation)
    return distillation


def policy_of(state: TrainState) -> Learned:
    """Returns the policy of a state of PPO, or the student of one of distillation."""
    if STUDENT in state.params:
        return Learned(state.params[STUDENT], state.obs_stats[STUDENT])
    return Learned(_policy_only(state.params), state.obs_stats | {"critic": ()})


def with_teacher(state: TrainState, learned: Learned) -> TrainState:
    """Returns a state of distillation with another teacher, from `policy_of`."""
    return state._replace(
        params=state.params | {TEACHER: learned.params},
        obs_stats=state.obs_stats | {TEACHER: learned.obs_stats},
    )


def with_student(state: TrainState, learned: Learned) -> TrainState:
    """Returns a state of PPO whose policy goes on from a student's; V is its own."""
    stats = {**learned.obs_stats, "critic": state.obs_stats["critic"]}
    return state._replace(params=state.params | learned.params, obs_stats=stats)


def init(
    student: ActorCritic,
    teacher: ActorCritic,
    config: DistillationConfig,
    learned: Learned | None,
    key: Key,
    obs: Obs,
    hparams: Hyperparams,
) -> TrainState:
    """Returns the state before training; the optimizer is of the student alone."""
    params, obs_stats = student.init(key, obs)
    params = _policy_only(params)
    if learned is None:
        drawn, stats = teacher.init(jax.random.fold_in(key, 1), obs)
        learned = Learned(_policy_only(drawn), stats)
    return TrainState(
        params={STUDENT: params, TEACHER: learned.params},
        obs_stats={STUDENT: obs_stats, TEACHER: learned.obs_stats},
        opt_state=OPTIMIZERS[config.optimizer]().init(params),
        learning_rate=jnp.asarray(hparams.learning_rate, jnp.float32),
        iteration=jnp.zeros((), jnp.int32),
    )


def initial_carry(student: ActorCritic, teacher: ActorCritic, obs: Obs) -> Any:
    """Returns the memory of both at the start of N episodes; () if neither has one."""
    if not (student.recurrence or teacher.recurrence):
        return ()
    return {
        STUDENT: acting.initial_carry(student, obs),
        TEACHER: acting.initial_carry(teacher, obs),
    }


def act(
    student: ActorCritic,
    teacher: ActorCritic,
    state: TrainState,
    obs: Obs,
    key: Key,
    carry: Any = (),
) -> PolicyOutput:
    """Draws the student's action for every environment, and asks the teacher for his.

    Args:
      student: that acts.
      teacher: whose deterministic action is the output's `target`.
      state: what was learned.
      obs: {group: [N, ...]}.
      key: for the draw.
      carry: memory before the step, see `acting.act`.
    """
    memory, of_teacher = memories(carry)
    output = acting.act(student, _part(state, STUDENT), obs, key, memory)
    target, of_teacher = acting.play(teacher, _part(state, TEACHER), obs, of_teacher)
    after = {STUDENT: output.carry, TEACHER: of_teacher} if carry else ()
    return output._replace(target=target, carry=after)


def mode(student: ActorCritic, state: TrainState, obs: Obs) -> Array:
    """Returns the student's deterministic action of every environment."""
    return acting.mode(student, _part(state, STUDENT), obs)


def play(
    student: ActorCritic, state: TrainState, obs: Obs, carry: Any
) -> tuple[Array, Any]:
    """Returns the student's deterministic action, and the memory after it."""
    memory, of_teacher = memories(carry)
    action, memory = acting.play(student, _part(state, STUDENT), obs, memory)
    return action, {STUDENT: memory, TEACHER: of_teacher} if carry else ()


def observe(
    state: TrainState, obs: Obs, output: PolicyOutput, timestep: TimeStep
) -> Transition:
    """Keeps of one step what the update needs: no value of any state."""
    del state
    return Transition(
        obs=obs,
        action=output.action,
        log_prob=output.log_prob,
        distribution=output.distribution,
        reward=timestep.reward,
        terminated=timestep.terminated,
        truncated=timestep.truncated,
        final_value=(),
        target=output.target,
    )


def _without_memory(
    learn: Callable[..., Any],
    state: TrainState,
    hparams: Hyperparams,
    rollout: Rollout,
    key: Key,
) -> tuple[TrainState, Metrics]:
    del key  # nothing is drawn
    state, _, metrics = learn(state, hparams, rollout)
    return state, metrics


def _update_with_memory(
    learn: Callable[..., Any],
    teacher: ActorCritic,
    state: TrainState,
    hparams: Hyperparams,
    rollout: Rollout,
    key: Key,
) -> tuple[TrainState, Any, Metrics]:
    """Returns the memory as rsl_rl goes on from it, beside what `update` returns.

    The student's is that of the last pass, taken with weights that moved meanwhile.
    The teacher's is empty: rsl_rl sets it to what it was before the first rollout.
    """
    del key
    state, memory, metrics = learn(state, hparams, rollout)
    return (
        state,
        {STUDENT: memory, TEACHER: acting.initial_carry(teacher, rollout.last_obs)},
        metrics,
    )


def _part(state: TrainState, name: str) -> TrainState:
    """Returns the state as that of one of both networks."""
    return state._replace(params=state.params[name], obs_stats=state.obs_stats[name])


def _policy_only(params: Params) -> Params:
    return {name: part for name, part in params.items() if name != "critic"}
