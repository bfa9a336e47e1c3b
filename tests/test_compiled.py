"""What XLA makes of the gradient steps, against NumPy, at the size of a task.

Some of XLA's fusions appear only at such sizes, and not all of them have been right:
with jaxlib 0.11 and 0.12 one took half of a term of an earlier form of the Gaussian KL.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax import (
    Batch,
    Continuous,
    Gaussian,
    Hyperparams,
    ModelConfig,
    PPOConfig,
    actor_critic,
    make_ppo,
    optimize,
    ppo_loss,
)

T, N = 16, 1024
HPARAMS = jax.tree.map(np.float32, Hyperparams(learning_rate=3e-3))
MODEL = ModelConfig(hidden_dims=(32, 32))
NETWORK = actor_critic(Continuous(1), MODEL, MODEL)


@pytest.fixture(scope="module")
def steps():
    """Samples of the second of two gradient steps, weights before it, its metrics."""
    rng = np.random.default_rng(0)

    def noise(*shape):
        return jnp.asarray(rng.normal(size=shape).astype(np.float32))

    obs = noise(T, N, 4)
    inputs = {"actor": obs, "critic": obs}
    config = PPOConfig(num_learning_epochs=1, num_mini_batches=2)
    ppo = make_ppo(NETWORK, config)
    state = ppo.init(jax.random.key(0), {"policy": obs[0]}, HPARAMS)
    policy, value = (f(state.params, inputs) for f in (NETWORK.policy, NETWORK.value))
    action = policy.mean + policy.std * noise(T, N, 1)
    advantage = noise(T, N) + action[..., 0]
    batch = Batch(
        inputs,
        action,
        policy.log_prob(action),
        policy,
        value,
        value + noise(T, N),
        advantage,
    )
    order = jnp.asarray(rng.permutation(T * N)[None])
    first, second = order[:, : T * N // 2], np.asarray(order[0, T * N // 2 :])

    def run(config, order):
        return optimize(NETWORK, config, ppo_loss, state, HPARAMS, batch, order)

    config_of_one = config.__class__(num_learning_epochs=1, num_mini_batches=1)
    after_first, _ = jax.jit(run, static_argnums=0)(config_of_one, first)
    _, history = jax.jit(run, static_argnums=0)(config, order)
    rows = jax.tree.map(
        lambda x: np.asarray(x, np.float64).reshape(T * N, *x.shape[2:])[second], batch
    )
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), after_first.params)
    return rows, params, {name: float(x[1]) for name, x in history.items()}


def forward(params, obs, head):
    x = obs
    for name in ("layer_0", "layer_1"):
        x = x @ params["mlp"][name]["kernel"] + params["mlp"][name]["bias"]
        x = np.where(x > 0, x, np.expm1(x))
    return x @ head["kernel"] + head["bias"]


@pytest.fixture
def policy(steps):
    rows, params, _ = steps
    actor = params["actor"]
    mean = forward(actor, rows.obs["actor"], actor["head"]["mean"])
    return Gaussian(mean, np.broadcast_to(actor["head"]["spread"], mean.shape))


def log_prob(policy, action):
    z = (action - policy.mean) / policy.std
    return (-0.5 * z**2 - np.log(policy.std) - 0.5 * np.log(2 * np.pi)).sum(-1)


def test_kl_is_that_of_the_two_policies(steps, policy):
    """KL(old || new) = ln s'/s + (s^2 + (m - m')^2) / (2 s'^2) - 1/2."""
    rows, _, metrics = steps
    old = rows.distribution
    moved = old.std**2 + (old.mean - policy.mean) ** 2
    kl = np.log(policy.std / old.std) + moved / (2 * policy.std**2) - 0.5
    assert kl.mean() > 1e-4, "the first step has to move the policy"
    np.testing.assert_allclose(metrics["kl"], kl.mean(), rtol=1e-3)


def test_losses_are_those_of_the_policy_and_the_value(steps, policy):
    """The surrogate, the value loss, both clipped at 0.2, and the entropy."""
    rows, params, metrics = steps
    ratio = np.exp(log_prob(policy, rows.action) - rows.log_prob)
    clipped = np.clip(ratio, 0.8, 1.2)
    surrogate = np.maximum(-rows.advantage * ratio, -rows.advantage * clipped).mean()
    np.testing.assert_allclose(metrics["surrogate_loss"], surrogate, atol=1e-5)

    critic = params["critic"]
    value = forward(critic, rows.obs["critic"], critic["head"])[:, 0]
    near = rows.value + np.clip(value - rows.value, -0.2, 0.2)
    target = rows.value_target
    worst = np.maximum((value - target) ** 2, (near - target) ** 2).mean()
    np.testing.assert_allclose(metrics["value_loss"], worst, rtol=1e-5)
    entropy = (0.5 + 0.5 * np.log(2 * np.pi) + np.log(policy.std)).mean()
    np.testing.assert_allclose(metrics["entropy"], entropy, rtol=1e-5)
