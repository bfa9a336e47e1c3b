"""Symmetry: hand tables, what a copy is, and that what is no symmetry is refused."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax import (
    Batch,
    Continuous,
    Discrete,
    DistributionConfig,
    Hyperparams,
    ModelConfig,
    PPOConfig,
    Transition,
    actor_critic,
    clipped_surrogate,
    clipped_value_loss,
    make_ppo,
    ppo_loss,
    train,
)
from ppo_jax.envs import make
from ppo_jax.envs.cartpole import mirrored
from ppo_jax.learning.config import SymmetryConfig
from ppo_jax.learning.symmetry import (
    Copies,
    Symmetry,
    mirror_loss,
    mirrored_copies,
    symmetric_loss,
    symmetry_of,
)
from ppo_jax.learning.symmetry_check import check_augmentation

T, N, D, A = 3, 4, 2, 2
ROBOT = ModelConfig(
    hidden_dims=(5,),
    obs_normalization=True,
    distribution_cfg=DistributionConfig("HeteroscedasticGaussianDistribution"),
)
NETWORK = actor_critic(Continuous(A), ROBOT, ModelConfig(hidden_dims=(5,)))
HPARAMS = Hyperparams(entropy_coef=0.1, value_loss_coef=0.5)


def four_copies(obs, action):
    """Identity, x mirrored, y mirrored, both: K = 4, as of a robot with four legs."""

    def blocks(x):
        signs = jnp.array([[1, 1], [-1, 1], [1, -1], [-1, -1]], x.dtype)
        return (signs[:, None] * x[None]).reshape(-1, x.shape[-1])

    return jax.tree.map(blocks, (obs, action))


def states(seed=0):
    """What was learned, with statistics that do something, and a rollout's steps."""
    keys = iter(jax.random.split(jax.random.key(seed), 9))
    obs = {"policy": jax.random.normal(next(keys), (T, N, D)) + 1.0}
    state = make_ppo(NETWORK).init(next(keys), {"policy": obs["policy"][0]}, HPARAMS)
    moved = jax.tree.map(
        lambda p: p + 0.3 * jax.random.normal(next(keys), p.shape),
        state.params["actor"]["head"],
    )
    state.params["actor"]["head"] = moved
    stats = NETWORK.update_stats(state.obs_stats, obs)
    state = state._replace(obs_stats=stats)
    inputs = NETWORK.prepare(stats, obs)
    policy = NETWORK.policy(state.params, inputs)
    action = policy.sample(next(keys))
    flags = jnp.zeros((T, N), bool)
    log_prob = policy.log_prob(action)
    return state, Transition(
        obs, action, log_prob, policy, jnp.ones((T, N)), flags, flags, ()
    )


def flat(tree):
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def minibatch(augment, seed=0):
    """All samples of the rollout as one minibatch, their copies, and later params."""
    state, steps = states(seed)
    copies = mirrored_copies(Symmetry(augment, True), NETWORK, state, steps)
    inputs = NETWORK.prepare(state.obs_stats, steps.obs)
    value = NETWORK.value(state.params, inputs)
    advantage = jax.random.normal(jax.random.key(5), (T, N))
    batch = Batch(
        inputs,
        steps.action,
        steps.log_prob,
        steps.distribution,
        value,
        value + advantage + 0.5,
        advantage,
        copies,
    )
    later = jax.tree.map(lambda p: p + 0.05 * jnp.sin(7 * p + 1), state.params)
    return flat(batch), later


# mu is what the policy does; the target is the negated mu of the original.
@pytest.mark.parametrize(
    ("action", "copied", "expected"),
    [
        ([[1.0], [2.0]], [[-1.0], [-2.0]], 0.0),  # symmetric
        ([[1.0], [2.0]], [[1.0], [2.0]], 10.0),  # (2^2 + 4^2) / 2
        ([[1.0], [2.0]], [[-1.0], [0.0]], 2.0),  # (0 + 2^2) / 2
        ([[1.0, 2.0]], [[-1.0, 1.0]], 4.5),  # a mean over dimensions too
    ],
)
def test_mirror_loss_matches_hand_arithmetic(maybe_jit, action, copied, expected):
    loss = maybe_jit(partial(mirror_loss, mirrored))(
        jnp.array(action), jnp.array([copied])
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_mirror_loss_moves_what_the_policy_does_in_the_mirror_only():
    """d/d copied = 2 (copied - target) / 2; the target stands still."""
    action, copied = jnp.array([[1.0], [2.0]]), jnp.array([[[-1.0], [0.0]]])
    by_action, by_copied = jax.grad(partial(mirror_loss, mirrored), (0, 1))(
        action, copied
    )
    np.testing.assert_array_equal(by_action, 0.0)
    np.testing.assert_allclose(by_copied, [[[0.0], [2.0]]], rtol=1e-6)


@pytest.mark.slow
def test_a_copy_is_what_the_network_reads_of_the_mirrored_rollout():
    """With the statistics that acted, in the order of the blocks."""
    state, steps = states()
    copies = mirrored_copies(Symmetry(four_copies, True), NETWORK, state, steps)
    assert copies.action.shape == (T, N, 3, A)
    signs = np.array([[-1, 1], [1, -1], [-1, -1]])
    for t, n, k in np.ndindex(T, N, 3):
        obs = {"policy": steps.obs["policy"][t, n] * signs[k]}
        expected = NETWORK.prepare(state.obs_stats, obs)
        for model, x in expected.items():
            np.testing.assert_allclose(copies.obs[model][t, n, k], x, rtol=1e-6)
        np.testing.assert_array_equal(
            copies.action[t, n, k], steps.action[t, n] * signs[k]
        )


@pytest.mark.slow
def test_the_loss_is_over_all_blocks_but_entropy_and_kl_are_of_the_originals():
    """Surrogate and value of K * B rows with tiled old values; the rest of B."""
    batch, params = minibatch(four_copies)
    loss_fn = partial(symmetric_loss, Symmetry(four_copies, True), ppo_loss)
    loss, metrics = jax.jit(
        lambda params, batch: loss_fn(params, NETWORK, batch, HPARAMS)
    )(params, batch)

    def rows(x, copied):
        return jnp.concatenate([x, *jnp.moveaxis(copied, 1, 0)])

    tiled = partial(jnp.tile, reps=4)
    obs = jax.tree.map(rows, batch.obs, batch.copies.obs)
    policy, value = NETWORK.policy(params, obs), NETWORK.value(params, obs)
    log_prob = policy.log_prob(rows(batch.action, batch.copies.action))
    surrogate = clipped_surrogate(
        jnp.exp(log_prob - tiled(batch.log_prob)),
        tiled(batch.advantage),
        HPARAMS.clip_param,
    ).mean()
    value_loss = clipped_value_loss(
        value, tiled(batch.value), tiled(batch.value_target), HPARAMS.clip_param
    ).mean()
    original = NETWORK.policy(params, batch.obs)
    entropy = original.entropy().mean()
    kl = batch.distribution.kl_divergence(original).mean()
    assert abs(policy.entropy().mean() - entropy) > 1e-2, "else the rows do not matter"
    np.testing.assert_allclose(metrics["surrogate_loss"], surrogate, rtol=2e-5)
    np.testing.assert_allclose(metrics["value_loss"], value_loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["entropy"], entropy, rtol=1e-5)
    np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-4)
    expected = surrogate + 0.5 * value_loss - 0.1 * entropy
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("augmented", [False, True])
def test_the_mirror_loss_is_added_with_its_weight_and_reported_without(augmented):
    batch, params = minibatch(mirrored)

    def loss_of(**use):
        symmetry = Symmetry(mirrored, use_data_augmentation=augmented, **use)
        return symmetric_loss(symmetry, ppo_loss, params, NETWORK, batch, HPARAMS)

    without, metrics = loss_of(mirror_loss_coeff=0.3)
    with_it, _ = loss_of(use_mirror_loss=True, mirror_loss_coeff=0.3)
    mean = NETWORK.policy(params, batch.obs).mode()
    copied = jax.tree.map(lambda x: x[:, 0], batch.copies.obs)
    difference = NETWORK.policy(params, copied).mode() + mean
    expected = (difference**2).mean()
    np.testing.assert_allclose(metrics["symmetry_loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(with_it - without, 0.3 * expected, rtol=1e-4)


@pytest.mark.slow
def test_without_copies_the_loss_is_what_it_was():
    """Watched only: neither the loss nor its gradient changes."""
    batch, params = minibatch(mirrored)
    watched = partial(symmetric_loss, Symmetry(mirrored), ppo_loss)

    def gradient(loss_fn, batch):
        return jax.grad(lambda p: loss_fn(p, NETWORK, batch, HPARAMS)[0])(params)

    actual = gradient(watched, batch._replace(copies=Copies(batch.copies.obs, ())))
    jax.tree.map(
        np.testing.assert_array_equal,
        actual,
        gradient(ppo_loss, batch._replace(copies=())),
    )


@pytest.mark.slow
def test_vmapped_runs_are_the_runs_alone():
    """Seeds and hyper-parameters share one program, as in a sweep."""
    env = make("Cartpole", num_envs=16)
    model = ModelConfig(hidden_dims=(8,))
    config = PPOConfig(num_learning_epochs=1, num_mini_batches=2)
    ppo = make_ppo(
        actor_critic(env.action_space, model, model),
        config,
        symmetry=Symmetry(mirrored, True, True, 0.5),
    )
    keys = jax.random.split(jax.random.key(3), 2)
    rates = jnp.array([1e-3, 3e-3])

    def run(key, rate):
        return train(ppo, env, 8, 2, key, Hyperparams(learning_rate=rate))[0].train

    run_alone = jax.jit(run)
    together = jax.jit(jax.vmap(run))(keys, rates)
    for i in range(2):
        alone = run_alone(keys[i], rates[i])
        jax.tree.map(
            lambda x, y, i=i: np.testing.assert_allclose(x[i], y, rtol=2e-4, atol=2e-6),
            together.params,
            alone.params,
        )


def blocks(*maps):
    """An augmentation whose blocks are these maps of the rows."""

    def augment(obs, action):
        return jax.tree.map(
            lambda x: jnp.concatenate([f(x) for f in maps]), (obs, action)
        )

    return augment


def same(x):
    return x


def no_actions(obs, action):
    return mirrored(obs, None)


def short(obs, action):
    obs, action = mirrored(obs, action)
    return obs, None if action is None else action[:-1]


def other_width(obs, action):
    obs, action = mirrored(obs, action)
    return jax.tree.map(lambda x: x[:, :1], obs), action


def by_row(obs, action):
    return jax.tree.map(lambda x: jnp.repeat(x, 2, axis=0), (obs, action))


def needs_both(obs, action):
    lone = obs is None or action is None
    return blocks(same, same if lone else jnp.negative)(obs, action)


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        (blocks(jnp.negative, same), "first block differs"),  # mirrored ones first
        (by_row, "first block differs"),  # copies beside each other, no blocks
        (blocks(same, lambda x: -x[::-1]), "depends on the other rows"),
        (
            blocks(same, lambda x: x - x.mean(axis=0, keepdims=True)),
            "depends on the other rows",
        ),
        (blocks(same), "K of at least 2"),
        (short, "the same K"),
        (no_actions, "another structure"),
        (lambda obs, action: None, "another structure"),
        (other_width, r"shape \(4,\) came back as \(1,\)"),
        (needs_both, "None: map one without the other"),
    ],
)
def test_what_is_no_symmetry_is_refused_before_the_run(augment, words):
    obs = {"policy": jnp.zeros((5, 3)), "critic": jnp.zeros((5, 4))}
    with pytest.raises(ValueError, match=f"not one: .*{words}"):
        check_augmentation(augment, obs, Continuous(3))


@pytest.mark.slow
def test_what_is_a_symmetry_passes():
    """Whatever its groups are: images of whole numbers, discrete actions."""
    obs = {"policy": jnp.zeros((5, 2)), "image": jnp.zeros((5, 3, 4, 4), jnp.uint8)}
    assert check_augmentation(blocks(same, jnp.negative, same), {}, Continuous(1)) == 3

    def augment(obs, action):
        if obs is not None:
            image = jnp.concatenate([obs["image"], obs["image"][..., ::-1]])
            obs = mirrored({"policy": obs["policy"]}, None)[0] | {"image": image}
        if action is not None:
            action = jnp.concatenate([action, 1 - action])
        return obs, action

    assert check_augmentation(augment, obs, Discrete(2)) == 2


@pytest.mark.slow
def test_a_mirror_loss_of_discrete_actions_is_refused():
    network = actor_critic(Discrete(2))
    obs = {"policy": jnp.zeros((4, 2))}
    params, stats = network.init(jax.random.key(0), obs)
    inputs = network.prepare(stats, obs)
    policy = network.policy(params, inputs)
    action = policy.mode()
    zeros = jnp.zeros(4)
    copies = jax.tree.map(lambda x: x[:, None], Copies(inputs, action))
    batch = Batch(inputs, action, zeros, policy, zeros, zeros, zeros, copies)
    loss = partial(symmetric_loss, Symmetry(mirrored, True), ppo_loss)
    assert "symmetry_loss" not in loss(params, network, batch, HPARAMS)[1]
    loss = partial(symmetric_loss, Symmetry(mirrored, True, True), ppo_loss)
    with pytest.raises(ValueError, match="actions are discrete"):
        loss(params, network, batch, HPARAMS)


def of_rsl_rl(env, obs=None, actions=None):
    raise AssertionError("is refused and not called")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "give a path such as 'package.module:name'"),
        ("ppo_jax.envs.cartpole.mirrored", "give a path such as 'package.module:name'"),
        ("ppo_jax.envs.cartpole:mirorred", "cannot be loaded .*mirorred"),
        ("no.such.module:mirrored", "cannot be loaded .*No module"),
        ("ppo_jax.envs.cartpole:RAIL_DAMPING", "is no function"),
        (f"{__name__}:of_rsl_rl", "rsl_rl's of"),
    ],
)
def test_a_function_that_is_not_there_is_named(path, words, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, __name__, _this_module())
    with pytest.raises(ValueError, match=f"data_augmentation_func = '{path}'.*{words}"):
        symmetry_of(SymmetryConfig(data_augmentation_func=path))


def _this_module():
    import types

    module = types.ModuleType(__name__)
    module.of_rsl_rl = of_rsl_rl
    return module


def test_a_configuration_is_enough():
    """`make_ppo` uses what the configuration names; nothing is silently left away."""
    symmetry_cfg = SymmetryConfig("ppo_jax.envs.cartpole:mirrored", True)
    config = dataclasses.replace(PPOConfig(), symmetry_cfg=symmetry_cfg)
    env = make("Cartpole", num_envs=16)
    ppo = make_ppo(actor_critic(env.action_space), config)
    _, metrics = jax.eval_shape(partial(train, ppo, env, 8, 1), jax.random.key(0))
    assert "symmetry_loss" in metrics
