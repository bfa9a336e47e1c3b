"""Learning with memory: what is learned from is what acted, and ends are ends."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax import (
    Batch,
    Hyperparams,
    ModelConfig,
    PPOConfig,
    actor_critic,
    collect,
    evaluate,
    host_scan,
    init_run,
    learning_batch,
    make_ppo,
    optimize,
    ppo_loss,
    train,
)
from ppo_jax.envs import make
from ppo_jax.learning.minibatches import draw_environments, environment_minibatches
from ppo_jax.learning.ppo import jitted
from ppo_jax.policies.memory import forget

T, N = 20, 6
HPARAMS = jax.tree.map(np.float32, Hyperparams())
ENV = make("Recall", N)
CONFIG = PPOConfig(num_learning_epochs=2, num_mini_batches=2)
PLAIN = ModelConfig(hidden_dims=(8,))
LSTM, GRU = (
    ModelConfig(
        class_name="RNNModel",
        rnn_type=kind,
        rnn_hidden_dim=6,
        rnn_num_layers=layers,
        hidden_dims=(8,),
        obs_normalization=True,
    )
    for kind, layers in (("lstm", 1), ("gru", 2))
)
MODELS = {"lstm": (LSTM, LSTM), "actor_only": (GRU, PLAIN), "critic_only": (PLAIN, GRU)}


@pytest.fixture(params=MODELS, scope="module")
def network(request):
    return actor_critic(ENV.action_space, *MODELS[request.param])


@pytest.fixture(scope="module")
def second(network):
    """The run before a second rollout, that rollout, and the run after it.

    Episodes end within it, and most environments are amid one when it begins.
    """
    ppo = make_ppo(network, CONFIG)
    step = jax.jit(partial(collect, ppo, ENV, T))
    run = jax.jit(partial(init_run, ppo, ENV, HPARAMS))(jax.random.key(0))
    run, _, _ = step(run, jax.random.key(1))
    cut_soon = ENV.randomize_episode_length(run.env_state, jax.random.key(3))
    run = run._replace(env_state=cut_soon)
    after, rollout, _ = step(run, jax.random.key(2))
    steps = rollout.steps
    assert (steps.terminated | steps.truncated).sum() >= N
    assert any((x != 0).any() for x in jax.tree.leaves(run.carry))
    return run, rollout, after


def reread(network):
    """Returns a jitted function of (state, rollout): log ratio and V, as learned."""

    def read(state, rollout):
        batch, _ = learning_batch(network, CONFIG, state, HPARAMS, rollout)
        policy = network.policy(state.params, batch.obs)
        return policy.log_prob(batch.action) - batch.log_prob, batch.value

    return jax.jit(read)


@pytest.mark.slow
def test_the_first_minibatch_sees_the_policy_that_acted(network, second):
    """Ratio 1 and KL 0, with ends inside the rollout and memory from the one before.

    Each fault that this code could have is noticed: memory that is never reset, that
    is reset a step late, or that starts from nothing.
    """
    run, rollout, _ = second
    read, steps = reread(network), rollout.steps
    log_ratio, value = read(run.train, rollout)
    np.testing.assert_allclose(log_ratio, 0.0, atol=2e-6)

    never = jnp.zeros_like(steps.terminated)
    done = steps.terminated | steps.truncated
    late = jnp.concatenate([never[:1], done[:-1]])
    faults = [
        rollout._replace(steps=steps._replace(terminated=never, truncated=never)),
        rollout._replace(steps=steps._replace(terminated=late, truncated=never)),
        rollout._replace(first_carry=jax.tree.map(jnp.zeros_like, run.carry)),
    ]
    for fault in faults:
        wrong_ratio, wrong_value = read(run.train, fault)
        moved = np.abs(wrong_ratio).max(), np.abs(wrong_value - value).max()
        assert max(moved) > 1e-4


@pytest.mark.slow
def test_kl_is_zero_before_the_first_gradient_step_and_then_not(second, network):
    run, rollout, _ = second

    @jax.jit
    def learn(state, rollout):
        batch, _ = learning_batch(network, CONFIG, state, HPARAMS, rollout)
        order = draw_environments(CONFIG, N, jax.random.key(0))
        return optimize(network, CONFIG, ppo_loss, state, HPARAMS, batch, order)[1]

    kl = learn(run.train, rollout)["kl"]
    assert abs(kl[0]) < 1e-11 and kl[1:].min() > 1e-8


@pytest.mark.slow
def test_values_after_a_rollout_and_after_a_time_out_continue_the_memory(
    network, second
):
    """Both are V of one more step of the same episode, never of a fresh memory."""
    run, rollout, after = second
    recurrence, state, steps = network.recurrence, run.train, rollout.steps

    def step(carry, action):
        env_state, obs, memory = carry
        inputs = network.prepare(state.obs_stats, obs)
        _, memory = recurrence.step(state.params, inputs, memory)
        env_state, timestep = ENV.step(env_state, action)
        final = network.prepare(state.obs_stats, timestep.final_obs)
        value = recurrence.value(state.params, final, memory)
        memory = forget(memory, timestep.terminated | timestep.truncated)
        return (env_state, timestep.obs, memory), value

    @jax.jit
    def replay(run):
        start = run.env_state, run.obs, run.carry
        (_, obs, memory), values = jax.lax.scan(step, start, steps.action)
        last = network.prepare(state.obs_stats, obs)
        return memory, values, recurrence.value(state.params, last, memory)

    memory, values, last_value = replay(run)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), memory, after.carry)
    any_cut = np.asarray(steps.truncated.any(axis=1))
    assert any_cut.any()
    np.testing.assert_allclose(steps.final_value[any_cut], values[any_cut], atol=1e-6)

    # With lam = 0 the value's target is r + gamma V of the next observation.
    hparams = HPARAMS._replace(lam=np.float32(0))
    batch, _ = jax.jit(partial(learning_batch, network, CONFIG))(
        state, hparams, rollout
    )
    goes_on = ~np.asarray(steps.terminated | steps.truncated)[-1]
    assert goes_on.any()
    target = steps.reward[-1] + 0.99 * last_value
    wanted, found = target[goes_on], batch.value_target[-1][goes_on]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_minibatches_are_whole_environments_in_order():
    """As rsl_rl cuts them: blocks, the same in every epoch, surplus ones left out."""
    config = PPOConfig(num_mini_batches=2, num_learning_epochs=3)
    order = draw_environments(config, 5, jax.random.key(0))
    np.testing.assert_array_equal(order, [[0, 1, 2, 3]])
    x = {"obs": jnp.arange(4 * 5 * 2).reshape(4, 5, 2), "memory": jnp.arange(5)[None]}
    batch = Batch(x, *(jnp.arange(20).reshape(4, 5) for _ in range(6)))
    cut = environment_minibatches(batch, order[0], 2)
    for m in range(2):
        envs = slice(2 * m, 2 * m + 2)
        for part, whole in zip(*map(jax.tree.leaves, (cut, batch)), strict=True):
            np.testing.assert_array_equal(part[m], whole[:, envs])
    shuffled = PPOConfig(
        num_mini_batches=2, num_learning_epochs=3, reshuffle_each_epoch=True
    )
    orders = draw_environments(shuffled, 9, jax.random.key(0))
    np.testing.assert_array_equal(np.sort(orders), [range(8)] * 3)
    assert len({tuple(order) for order in np.asarray(orders)}) == 3
    with pytest.raises(ValueError, match="learns from whole environments"):
        draw_environments(config, 1, jax.random.key(0))


@pytest.mark.slow
def test_a_loop_on_the_host_gives_the_same_rollout():
    ppo = make_ppo(actor_critic(ENV.action_space, LSTM, GRU), CONFIG)
    run = jax.jit(partial(init_run, ppo, ENV, HPARAMS))(jax.random.key(0))
    inside, outside = (
        step(run, jax.random.key(1))
        for step in (
            jax.jit(partial(collect, ppo, ENV, T)),
            partial(collect, jitted(ppo), ENV, T, scan=host_scan),
        )
    )
    for x, y in zip(*map(jax.tree.leaves, (inside, outside)), strict=True):
        np.testing.assert_allclose(_plain(y), _plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_row_of_vmap_is_the_run_alone():
    network = actor_critic(ENV.action_space, *MODELS["lstm"])
    ppo = make_ppo(network, CONFIG)
    keys = jax.random.split(jax.random.key(5), 3)
    run = partial(train, ppo, ENV, T, 1)
    together, _ = jax.jit(jax.vmap(lambda key: run(key, HPARAMS)))(keys)
    alone, _ = jax.jit(run)(keys[1], HPARAMS)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5),
        jax.tree.map(lambda x: _plain(x)[1], together),
        jax.tree.map(_plain, alone),
    )


@pytest.mark.slow
def test_evaluation_and_mode_remember():
    """Played with a carry; without one `mode` says what to call."""
    ppo = make_ppo(actor_critic(ENV.action_space, GRU, PLAIN), CONFIG)
    _, obs = ENV.reset(jax.random.key(0))
    state = jax.jit(ppo.init)(jax.random.key(0), obs, HPARAMS)
    with pytest.raises(ValueError, match="has memory: call play"):
        ppo.mode(state, obs)
    carry = ppo.initial_carry(obs)
    play = jax.jit(ppo.play)
    first, carry = play(state, obs, carry)
    second, _ = play(state, obs, carry)
    assert np.abs(first - second).max() > 1e-5
    played = jax.jit(evaluate, static_argnums=(0, 1))(
        ppo, ENV, state, jax.random.key(1)
    )
    assert played.episode_length.min() >= 5 and played.episode_length.max() <= 13


def test_sequences_are_not_mirrored():
    """As in rsl_rl: refused, and not ignored."""
    network = actor_critic(ENV.action_space, LSTM, PLAIN)
    with pytest.raises(ValueError, match="symmetry_cfg is set, but the network has"):
        make_ppo(network, CONFIG, symmetry=lambda obs, action: (obs, action))


def _plain(x):
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if is_key else x)
