"""One policy on P devices: `test_shards` runs this where there are as many.

They are those of one process, or of as many processes that meet. Compared is what one
device learns from all samples with what all learn together from a part each.
"""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from ppo_jax import Hyperparams, ModelConfig, PPOConfig, actor_critic, make_ppo
from ppo_jax.envs import make
from ppo_jax.learning.advantages import normalize_advantage
from ppo_jax.learning.config import DistillationConfig, RNDConfig
from ppo_jax.learning.distillation import make_distillation
from ppo_jax.learning.rnd import make_rnd
from ppo_jax.loops import shards
from ppo_jax.loops.rollout import collect
from ppo_jax.loops.shards import AXIS, OWN, SAME, mesh_of
from ppo_jax.loops.training import init_run, iterate
from ppo_jax.policies.normalization import init_stats, update_stats
from ppo_jax.runs import devices, processes

P, T, N = (
    jax.device_count(),
    4,
    16,
)  # shards, steps, environments of all shards together
SEEING = ModelConfig(hidden_dims=(8,), obs_normalization=True)
HPARAMS = jax.tree.map(jnp.float32, Hyperparams(max_grad_norm=0.5))
ENV, OWN_ENV = make("Cartpole", N), make("Cartpole", N // P)
ONE_STEP: dict[str, Any] = {"num_learning_epochs": 1, "num_mini_batches": 1}
# Nearly all the time of these tests is XLA's; where bits count, it optimises as always.
fast_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
RND = RNDConfig(weight=1.0, reward_normalization=True, state_normalization=True)


@pytest.fixture(scope="module")
def mesh():
    return mesh_of(jax.devices())


def on_all(mesh, function, inputs, outputs, jit=jax.jit):
    """What every shard runs, as a function of whole arrays that returns whole ones.

    Whole in every process, whichever has which device.
    """
    together = jit(shards.over(mesh, function, inputs, outputs))

    def call(*arrays):
        each = zip(inputs, arrays, strict=True)
        return processes.gather(together(*(put(mesh, *one) for one in each)))

    return call


def put(mesh, spec, tree):
    """Arrays where they belong; those that are there stay."""
    at = NamedSharding(mesh, spec)
    is_there = lambda x: getattr(x, "sharding", None) == at
    return jax.tree.map(lambda x: x if is_there(x) else processes.spread(x, at), tree)


def algorithm(axis, rnd=None, model=SEEING, **options):
    """PPO along an axis, or alone."""
    network = actor_critic(ENV.action_space, model, model)
    config = PPOConfig(**options, rnd_cfg=rnd)
    novelty = make_rnd(rnd, ENV.step_dt, axis=axis) if rnd else None
    return make_ppo(network, config, rnd=novelty, axis=axis)


def students(axis):
    network = actor_critic(ENV.action_space, SEEING, SEEING)
    config = DistillationConfig(gradient_length=2)
    return make_distillation(network, network, config, axis=axis)


@pytest.fixture(scope="module")
def rollout():
    """Of one device, with all environments."""
    alone = algorithm(None)
    run = fast_jit(partial(init_run, alone, ENV))(HPARAMS, jax.random.key(0))
    collected = fast_jit(partial(collect, alone, ENV, T))
    run, found, _ = collected(run, jax.random.key(1))
    return run.train, found


def spread_out(x):
    """[T, N, ...] as [P, T, N / P, ...]."""
    return jnp.moveaxis(x.reshape(len(x), P, N // P, *x.shape[2:]), 1, 0)


def cut(rollout):
    """The same rollout as a row for each shard."""
    last = lambda x: x.reshape(P, N // P, *x.shape[1:])
    return rollout._replace(
        steps=jax.tree.map(spread_out, rollout.steps),
        last_obs=jax.tree.map(last, rollout.last_obs),
    )


def learned_on_each(mesh, state, rollout, **options):
    """What every shard has learned from its part of a rollout, [P, ...]."""
    update = algorithm(AXIS, **options).update

    def one(rollout):
        alone = jax.tree.map(lambda x: x[0], rollout)
        return jax.tree.map(
            lambda x: x[None], update(state, HPARAMS, alone, jax.random.key(2))
        )

    return on_all(mesh, one, (OWN,), OWN, fast_jit)(fast_jit(cut)(rollout))


def assert_same_on_all(tree):
    for path, x in jax.tree.leaves_with_path(tree):
        rows = np.asarray(x)
        assert (rows == rows[:1]).all(), jax.tree_util.keystr(path)


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_the_first_gradient_is_that_of_one_device(mesh, rollout, micro_batches):
    """And so are norms, losses, KL and statistics; with SGD a step is a gradient."""
    options: dict[str, Any] = ONE_STEP | {"optimizer": "sgd", "schedule": "fixed"}
    state, found = rollout
    ppo = algorithm(None, **options)
    fresh = fast_jit(ppo.init)(jax.random.key(3), found.last_obs, HPARAMS)
    state = fresh._replace(params=state.params)
    alone, metrics = fast_jit(ppo.update)(state, HPARAMS, found, jax.random.key(2))
    options |= {"micro_batches": micro_batches}
    together, over_all = learned_on_each(mesh, state, found, **options)
    assert_same_on_all((together, over_all))
    ours = jax.tree.map(lambda x: x[0], (together, over_all))
    chex.assert_trees_all_close(ours[0], alone, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(ours[1], metrics, rtol=1e-5, atol=1e-6)
    kernels = (x.params["actor"]["head"]["mean"]["kernel"] for x in (alone, state))
    assert abs(np.subtract(*kernels)).max() > 1e-5


def test_every_gradient_step_leaves_all_equal(mesh, rollout):
    """To the last bit, the learning rate too, which follows the KL of all."""
    state, found = rollout
    options = {"num_learning_epochs": 2, "num_mini_batches": 2}
    together, over_all = learned_on_each(mesh, state, found, **options)
    assert_same_on_all((together, over_all))
    assert together.learning_rate[0] != state.learning_rate
    assert not np.array_equal(over_all["kl"], np.zeros(P))


@pytest.mark.parametrize("per_device", [False, True])
@pytest.mark.parametrize("per_mini_batch", [True])
def test_advantages_are_normalised_over_all_or_on_each(
    mesh, rollout, per_device, per_mini_batch
):
    """The loss of the first step tells over what: the ratio is 1 there."""
    options = ONE_STEP | {
        "normalize_advantage_per_device": per_device,
        "normalize_advantage_per_mini_batch": per_mini_batch,
    }
    state, found = rollout
    alone, _ = fast_jit(algorithm(None, **options).update)(
        state, HPARAMS, found, jax.random.key(2)
    )
    together, _ = learned_on_each(mesh, state, found, **options)
    assert_same_on_all(together)
    difference = jax.tree.map(
        lambda x, y: abs(x[0] - np.asarray(y)).max(), together.params, alone.params
    )
    assert (max(jax.tree.leaves(difference)) < 2e-6) != per_device


def test_normalised_over_each_is_what_each_would_do_alone(mesh):
    x = jax.random.normal(jax.random.key(0), (P, 6)) * 3.0 + 100.0
    for axis, alone in (
        (None, jax.vmap(normalize_advantage)),
        (AXIS, normalize_advantage),
    ):
        one = lambda x, axis=axis: normalize_advantage(x, axis)
        ours = on_all(mesh, one, (OWN,), OWN)(x)
        np.testing.assert_allclose(ours, jax.jit(alone)(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_statistics_are_those_of_all_rows(mesh, scale):
    """Count, mean and variance about the common mean, over three batches."""
    x = np.random.default_rng(0).normal(5.0, 1.0, (3, P, 6, 2))
    x *= (1.0 + np.arange(P))[None, :, None, None]  # every shard sees another place
    x = np.float32(scale * x)
    one = lambda stats, x: update_stats(stats, x, AXIS)
    step = on_all(mesh, one, (SAME, OWN), SAME)
    ours = alone = init_stats(2)
    for rows in x:
        ours = step(ours, rows.reshape(-1, 2))
        alone = jax.jit(update_stats)(alone, rows)
    chex.assert_trees_all_close(ours[:3], alone[:3], rtol=2e-6)
    rows = np.asarray(x, np.float64).reshape(-1, 2)
    np.testing.assert_allclose(ours.mean, rows.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(ours.var, rows.var(axis=0), rtol=1e-5)
    assert ours.count == len(rows)


def test_equal_rows_have_no_variance_on_any_shard(mesh):
    x = jnp.full((P * 3, 2), 0.1)
    one = lambda x: update_stats(init_stats(2), x, AXIS)
    stats = on_all(mesh, one, (OWN,), SAME)(x)
    assert (stats.var == 0.0).all()


REMEMBERING = ModelConfig(class_name="RNNModel", rnn_hidden_dim=4, hidden_dims=(8,))
SMALL: dict[str, Any] = {
    "num_learning_epochs": 2,
    "num_mini_batches": 2,
    "reshuffle_each_epoch": True,
}
EVERYTHING: dict[str, Any] = {
    "ppo": partial(algorithm, rnd=RND, **SMALL),
    "memory": partial(algorithm, model=REMEMBERING, **SMALL),
    "distillation": students,
}


def run_on(mesh, make_algorithm, env, num_iterations):
    """Three iterations over a mesh: the runs, and their metrics."""
    ppo = make_algorithm(AXIS)
    start = fast_jit(shards.start_on(mesh, partial(init_run, ppo, env, HPARAMS)))
    step = jax.jit(shards.iterate_on(mesh, partial(iterate, ppo, env, T, axis=AXIS)))
    key, hparams = devices.place_same(mesh, (jax.random.key(7), HPARAMS))
    run, history = start(key), []
    for _ in range(num_iterations):
        run, metrics = step(run, hparams)
        history.append(metrics)
    return run, history


@pytest.mark.parametrize("name", EVERYTHING)
def test_what_is_learned_is_the_same_on_all_to_the_last_bit(mesh, name):
    """Weights, optimizer, statistics, learning rate; each has acted by itself."""
    run, _ = run_on(mesh, EVERYTHING[name], OWN_ENV, 3)
    as_row = lambda tree: jax.tree.map(lambda x: x[None], tree)
    copies = on_all(mesh, as_row, (SAME,), OWN)(run.train)
    assert copies.learning_rate.shape == (P,)
    assert_same_on_all(copies)
    numbers = processes.gather(shards.fingerprints(mesh, run.train))
    assert len(set(numbers.tolist())) == 1
    run = processes.gather(run)
    obs = run.obs["policy"]
    assert obs.shape[:2] == (P, N // P)
    assert len({row.tobytes() for row in obs}) == P
    assert len({row.tobytes() for row in run.key}) == P
    if name == "ppo":
        assert_same_on_all((run.rnd.stats, run.rnd.step))
        assert run.rnd.stats.count[0] == 3 * T * N


def test_one_bit_on_one_shard_is_noticed(mesh):
    run, _ = run_on(mesh, EVERYTHING["ppo"], OWN_ENV, 1)
    kernel = run.train.params["critic"]["head"]["kernel"]
    bad = np.asarray(kernel).copy()
    bad.view(np.uint32)[3, 0] ^= 1
    parts = [jax.device_put(np.asarray(kernel), d) for d in jax.devices()]
    parts[5] = jax.device_put(bad, jax.devices()[5])
    kernel = jax.make_array_from_single_device_arrays(
        kernel.shape, kernel.sharding, parts
    )
    run.train.params["critic"]["head"]["kernel"] = kernel
    numbers = np.asarray(shards.fingerprints(mesh, run.train))
    (odd,) = np.flatnonzero(numbers != numbers[0])
    assert odd == 5


def test_one_shard_along_the_axis_is_no_axis_bit_for_bit():
    one, make_algorithm = mesh_of(jax.local_devices()[:1]), EVERYTHING["ppo"]
    ours, over_axis = run_on(one, make_algorithm, ENV, 3)
    ppo = make_algorithm(None)
    start = fast_jit(partial(init_run, ppo, ENV, HPARAMS))
    step = jax.jit(partial(iterate, ppo, ENV, T))
    run, history = start(jax.random.key(7)), []
    for _ in range(3):
        run, metrics = step(run, HPARAMS)
        history.append(metrics)
    chex.assert_trees_all_equal(shards.unstack(ours), run)
    chex.assert_trees_all_equal(over_axis, history)


def test_episodes_and_logs_are_of_all_shards(mesh):
    """Means weigh as much as their episodes; a bad environment has its own number."""
    from ppo_jax.loops.episodes import over_shards

    recent, ended = np.arange(P, dtype=np.int32), np.arange(P, dtype=np.int32) % 3
    named = np.full((P, 8), -1, np.int32)
    named[2, :2], named[6, 0] = (0, 1), 1
    metrics = {
        "episode_return": jnp.arange(P) * 10.0,
        "episode_length": jnp.arange(P) * 2.0,
        "num_recent": jnp.asarray(recent),
        "log/height": jnp.arange(P) * 1.0,
        "num_ended": jnp.asarray(ended),
        "nonfinite/reward": jnp.asarray(named),
    }

    def one(metrics):
        alone = jax.tree.map(lambda x: x[0], metrics)
        return over_shards(AXIS, alone, N // P)

    all_metrics = on_all(mesh, one, (OWN,), SAME)(metrics)
    wanted = (recent * np.arange(P) * 10.0).sum() / recent.sum()
    np.testing.assert_allclose(all_metrics["episode_return"], wanted, rtol=1e-6)
    height = (ended * np.arange(P)).sum() / ended.sum()
    np.testing.assert_allclose(all_metrics["log/height"], height, rtol=1e-6)
    assert all_metrics["num_recent"] == recent.sum()
    assert all_metrics["nonfinite/reward"].tolist() == [4, 5, 13, -1, -1, -1, -1, -1]


def test_without_an_axis_nothing_is_sent_and_the_text_is_what_it_was(monkeypatch):
    """The program of one device is the one that knows of no other."""

    def lower():
        rnd = make_rnd(RND, ENV.step_dt)
        network = actor_critic(ENV.action_space, SEEING, SEEING)
        options = {"rnd_cfg": RND, "normalize_advantage_per_mini_batch": True}
        ppo = make_ppo(network, PPOConfig(**options), rnd=rnd)
        start = partial(init_run, ppo, ENV, HPARAMS)
        step = jax.jit(partial(iterate, ppo, ENV, T))
        return step.lower(jax.eval_shape(start, jax.random.key(0)), HPARAMS).as_text()

    text = lower()
    assert not any(
        word in text for word in ("all_reduce", "all_gather", "partition_id")
    )
    from ppo_jax.learning import advantages, gradient_steps, rnd
    from ppo_jax.loops import episodes
    from ppo_jax.policies import moments, normalization

    for module in (moments, normalization, advantages, gradient_steps, rnd, episodes):
        for name in ("mean_over", "sum_over", "first_over", "rows_over"):
            monkeypatch.setattr(module, name, lambda axis, x: x, raising=False)
        monkeypatch.setattr(module, "num_shards", lambda axis: 1, raising=False)
    jax.clear_caches()
    assert lower() == text
