"""A student and its teacher as pure functions: laws beside the recorded numbers."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax import Hyperparams
from ppo_jax.envs import make
from ppo_jax.learning.config import DistillationConfig
from ppo_jax.learning.distillation import (
    make_distillation,
    policy_of,
    with_student,
    with_teacher,
)
from ppo_jax.learning.imitation import huber
from ppo_jax.learning.ppo import make_ppo
from ppo_jax.loops.training import init_run, iterate
from ppo_jax.policies.actor_critic import actor_critic
from ppo_jax.policies.models import ModelConfig

HPARAMS = jax.tree.map(jnp.float32, Hyperparams(learning_rate=1e-2))
T = 6
PLAIN = ModelConfig(hidden_dims=(8,))
REMEMBERING = ModelConfig(
    class_name="RNNModel", rnn_hidden_dim=4, hidden_dims=(8,), obs_normalization=True
)


@pytest.fixture(scope="module")
def env():
    return make("Cartpole", 4)


def algorithm(env, student=PLAIN, learned=None, **options):
    networks = [actor_critic(env.action_space, model) for model in (student, PLAIN)]
    return make_distillation(*networks, DistillationConfig(**options), learned)


@pytest.fixture(scope="module")
def begun(env):
    """A student with memory, and its run at the start."""
    distillation = algorithm(env, REMEMBERING, gradient_length=4, num_learning_epochs=2)
    start = jax.jit(partial(init_run, distillation, env, HPARAMS))
    return distillation, start(jax.random.key(0))


@pytest.fixture(scope="module")
def of_rnn(env, begun):
    """A student with memory after its first iteration, and what that was begun with."""
    distillation, first = begun
    step = jax.jit(partial(iterate, distillation, env, T))
    return distillation, step, first, step(first, HPARAMS)


@pytest.mark.slow
def test_the_teacher_stands_still_and_the_student_does_not(of_rnn):
    _, _, first, (after, metrics) = of_rnn
    chex.assert_trees_all_equal(
        after.train.params["teacher"], first.train.params["teacher"]
    )
    moved = jax.tree.map(
        lambda x, y: bool((x != y).any()),
        after.train.params["student"]["actor"],
        first.train.params["student"]["actor"],
    )
    assert not moved["head"].pop("spread")  # no action that is asked for depends on it
    assert all(jax.tree.leaves(moved))
    assert after.train.iteration == 1
    assert after.train.obs_stats["student"]["actor"].count == T * env_size(first)
    assert np.isfinite(metrics["behavior_loss"])


def env_size(run):
    return len(run.obs["policy"])


@pytest.mark.slow
def test_a_row_of_a_vmap_is_the_run_alone(env, of_rnn):
    """As a sweep has them: seeds and learning rates side by side."""
    distillation, step, _, _ = of_rnn
    start = jax.vmap(partial(init_run, distillation, env, HPARAMS))
    runs = jax.jit(start)(jax.random.split(jax.random.key(1), 2))
    hparams = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), HPARAMS)
    together, _ = jax.jit(jax.vmap(partial(iterate, distillation, env, T)))(
        runs, hparams
    )
    second = jax.tree.map(lambda x: x[1], (runs, hparams))
    alone, _ = step(*second)
    chex.assert_trees_all_close(
        jax.tree.map(lambda x: x[1], together.train.params),
        alone.train.params,
        atol=2e-6,
    )


def as_rsl_rl(env, first, **options):
    """The run after an iteration whose update gives the memory too, and metrics."""
    options |= {"gradient_length": 4, "num_learning_epochs": 2, "rsl_rl_memory": True}
    theirs = algorithm(env, REMEMBERING, **options)
    return jax.jit(partial(iterate, theirs, env, T))(first, HPARAMS)


@pytest.fixture(scope="module")
def of_rsl_rl(env, of_rnn):
    return as_rsl_rl(env, of_rnn[2])


@pytest.mark.slow
def test_memory_goes_on_as_it_acted_unless_rsl_rls_is_asked_for(of_rnn, of_rsl_rl):
    distillation, _, _, (after, _) = of_rnn
    assert distillation.update_with_memory is None
    theirs, _ = of_rsl_rl
    chex.assert_trees_all_close(theirs.train.params, after.train.params, atol=1e-6)
    hidden = [run.carry["student"]["actor"][0].hidden for run in (after, theirs)]
    assert np.abs(hidden[0] - hidden[1]).max() > 1e-4


@pytest.mark.slow
def test_environments_in_parts_are_the_whole(env, of_rnn, of_rsl_rl):
    """To rounding: what is learned, losses, and the memory of each environment."""
    parts = as_rsl_rl(env, of_rnn[2], micro_batches=2)
    whole, _ = of_rsl_rl
    chex.assert_trees_all_close(
        (parts[0].train, parts[0].carry, parts[1]),
        (whole.train, whole.carry, of_rsl_rl[1]),
        rtol=2e-5,
        atol=2e-6,
    )


@pytest.mark.slow
def test_without_memory_environments_in_parts_are_the_whole_too(env):
    ours = []
    for num_parts in (1, 4):
        plain = algorithm(env, PLAIN, gradient_length=4, micro_batches=num_parts)
        first = init_run(plain, env, HPARAMS, jax.random.key(0))
        ours.append(jax.jit(partial(iterate, plain, env, T))(first, HPARAMS))
    chex.assert_trees_all_close(
        *((run.train, metrics) for run, metrics in ours), rtol=2e-5, atol=2e-6
    )


def test_environments_that_cannot_be_cut_are_refused(env):
    plain = algorithm(env, PLAIN, gradient_length=4, micro_batches=3)
    start = partial(init_run, plain, env, HPARAMS)
    first = jax.eval_shape(start, jax.random.key(0))
    with pytest.raises(ValueError, match=r"micro_batches = 3, .* 4 environments"):
        jax.eval_shape(partial(iterate, plain, env, T), first, HPARAMS)


@pytest.mark.slow
def test_a_students_policy_goes_on_in_ppo(env, begun):
    """And acts there as it did; its value function is PPO's own."""
    distillation, first = begun
    move = lambda x: x + np.asarray(0.125).astype(x.dtype)  # as no start is
    after = first._replace(train=jax.tree.map(move, jax.device_get(first.train)))
    ppo = make_ppo(actor_critic(env.action_space, REMEMBERING, PLAIN))
    fresh = ppo.init(jax.random.key(2), after.obs, HPARAMS)
    state = with_student(fresh, policy_of(after.train))
    assert jax.tree.structure(state) == jax.tree.structure(fresh)
    chex.assert_trees_all_equal(state.params["critic"], fresh.params["critic"])
    action, _ = ppo.play(state, after.obs, ppo.initial_carry(after.obs))
    carry = distillation.initial_carry(after.obs)
    np.testing.assert_array_equal(
        action, distillation.play(after.train, after.obs, carry)[0]
    )


def test_a_teacher_is_bound_or_given_afterwards(env):
    ppo = make_ppo(actor_critic(env.action_space, PLAIN, PLAIN))
    obs = {"policy": jnp.ones((4, 4))}
    learned = policy_of(ppo.init(jax.random.key(5), obs, HPARAMS))
    bound = algorithm(env, learned=learned).init(jax.random.key(0), obs, HPARAMS)
    given = algorithm(env).init(jax.random.key(0), obs, HPARAMS)
    assert not np.array_equal(*map(jax.tree.leaves, (bound.params, given.params)))
    chex.assert_trees_all_equal(with_teacher(given, learned), bound)


def test_huber():
    """e^2 / 2 up to 1, |e| - 1/2 beyond; torch's with delta 1."""
    error = jnp.array([0.0, 0.5, -1.0, 1.5, -3.0])
    np.testing.assert_allclose(huber(error), [0.0, 0.125, 0.5, 1.0, 2.5])


def test_too_few_steps_for_one_gradient_step_are_refused(env):
    distillation = algorithm(env, gradient_length=T + 1)
    with pytest.raises(ValueError, match=r"gradient_length = 7.*= 6"):
        jax.eval_shape(
            partial(iterate, distillation, env, T),
            jax.eval_shape(
                partial(init_run, distillation, env, HPARAMS), jax.random.key(0)
            ),
            HPARAMS,
        )
