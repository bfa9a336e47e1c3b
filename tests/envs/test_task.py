"""What `vectorize` makes of a task that somebody wrote: casts where they are exact."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax import (
    Continuous,
    Discrete,
    ModelConfig,
    PPOConfig,
    actor_critic,
    make_ppo,
    train,
)
from ppo_jax.envs import vectorize

N = 16
LINE = Continuous(1)


@dataclass(frozen=True)
class Echo:
    """A task whose reward is the action, in types and shapes that one may choose."""

    reward: Any = lambda action: action.sum()
    terminated: Any = lambda count: count == 2
    observe_as: Any = lambda count: jnp.ones(3) * count
    log: Any = lambda action: {}
    action_space: Any = LINE
    max_episode_length: int = 3
    step_dt: float = 0.1

    def reset(self, key):
        return jnp.zeros((), jnp.int32)

    def step(self, state, action, key, common_step):
        log = self.log(action)
        return state + 1, self.reward(action), self.terminated(state + 1), log

    def observe(self, state, key):
        return {"policy": self.observe_as(state)}


def steps(task, action, clip_actions=None):
    """Two steps of N environments; the second ends the episode."""
    env = vectorize(task, N, clip_actions)

    @jax.jit
    def play(key):
        state, _ = env.reset(key)
        state, first = env.step(state, action)
        return first, env.step(state, action)[1]

    return play(jax.random.key(0))


def learn(task):
    env = vectorize(task, N)
    model = ModelConfig(hidden_dims=(4,))
    ppo = make_ppo(
        actor_critic(env.action_space, model, model),
        PPOConfig(num_learning_epochs=1, num_mini_batches=1),
    )
    return jax.jit(partial(train, ppo, env, 4, 1))(jax.random.key(0))


@pytest.mark.parametrize("clip_actions", [None, 1.0])
def test_every_discrete_action_reaches_the_task(clip_actions):
    """A number of an action is a name: there is nothing to clip."""
    action = jnp.arange(N, dtype=jnp.int32) % 5
    task = Echo(action_space=Discrete(5))
    first, _ = steps(task, action, clip_actions)
    np.testing.assert_array_equal(first.reward, action)


def test_continuous_actions_are_clipped():
    first, _ = steps(Echo(), jnp.full((N, 1), 3.0), 1.0)
    np.testing.assert_array_equal(first.reward, np.ones(N))


@pytest.mark.parametrize(
    "dtype", ["int32", "int8", "uint8", "bool", "float16", "bfloat16"]
)
def test_rewards_become_float32(dtype):
    task = Echo(reward=lambda action: action[0].astype(dtype))
    first, _ = steps(task, jnp.ones((N, 1)))
    assert first.reward.dtype == jnp.float32
    np.testing.assert_array_equal(first.reward, np.ones(N))


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float32", "bfloat16"])
def test_flags_may_be_numbers(dtype):
    task = Echo(terminated=lambda count: (count == 2).astype(dtype))
    first, second = steps(task, jnp.ones((N, 1)))
    assert first.terminated.dtype == jnp.bool_
    assert not first.terminated.any() and second.terminated.all()


@pytest.mark.slow
def test_a_task_of_whole_numbers_is_trained():
    """Python's own numbers, too: no type is asked for where none is lost."""
    task = Echo(
        reward=lambda action: 1,
        terminated=lambda count: jnp.where(count == 2, 1, 0),
        observe_as=lambda count: jnp.full(3, count, jnp.uint8),
        log=lambda action: {"Metrics/one": 1},
    )
    run, metrics = learn(task)
    assert 1.0 <= metrics["episode_return"][-1] <= 2.0  # some episodes began halfway
    assert metrics["log/Metrics/one"][-1] == 1.0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(run.train.params))


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (
            Echo(reward=lambda action: action),
            r"the reward of the task is float32 \[1\], not a scalar, float32",
        ),
        (
            Echo(terminated=lambda count: jnp.full(2, count == 2)),
            r"terminated of the task is bool \[2\], not a scalar, bool",
        ),
        (
            Echo(reward=lambda action: action[0].astype(jnp.complex64)),
            r"the reward of the task is complex64 \[\]",
        ),
        (
            Echo(log=lambda action: {"Metrics/a": action}),
            r"log\['Metrics/a'\] of the task is float32 \[1\], not a scalar:",
        ),
        (
            Echo(observe_as=lambda count: jnp.zeros((6, 6, 3), jnp.uint8)),
            r"the observation group 'policy' is uint8 \[6, 6, 3\] in each environment",
        ),
        (
            Echo(observe_as=lambda count: 1.0 * count),
            r"the observation group 'policy' is float32 \[\] in each environment",
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(task, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        learn(task)
    assert "\n" not in str(error.value)


def test_more_digits_than_float32_has_are_not_dropped():
    with jax.enable_x64(True), pytest.raises(ValueError, match="is float64"):
        steps(Echo(reward=lambda action: jnp.float64(0.1)), jnp.ones((N, 1)))
