"""Population-based training: who continues whom, and with which numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax.loops.episodes import init_episodes
from ppo_jax.loops.pbt import evolve, exploit, explore
from ppo_jax.loops.pbt_config import PBTConfig
from ppo_jax.types import Hyperparams, RunState, TrainState

NAN = float("nan")


@pytest.mark.parametrize(
    ("fraction", "fitness", "possible"),
    [
        # the worst of four continues the best of four
        (0.25, [1.0, 4.0, 3.0, 2.0], [{1}, {1}, {2}, {3}]),
        # the two worst continue one of the two best
        (0.5, [1.0, 4.0, 3.0, 2.0], [{1, 2}, {1}, {2}, {1, 2}]),
        # NaN is worst: it is replaced, and never copied
        (0.25, [5.0, NAN, 1.0, 2.0], [{0}, {0}, {2}, {3}]),
        # nobody has ended an episode: all stay
        (0.5, [NAN, NAN, NAN, NAN], [{0}, {1}, {2}, {3}]),
        # one good member, three NaN: two of them might draw a NaN, and then stay
        (0.5, [NAN, 1.0, NAN, NAN], [{0}, {1}, {1, 2}, {1, 3}]),
        # equals do not move
        (0.5, [2.0, 2.0], [{0}, {1}]),
        # a quarter of three is less than one: one is replaced all the same
        (0.25, [3.0, 1.0, 2.0], [{0}, {0}, {2}]),
    ],
)
def test_the_worst_continue_the_best(maybe_jit, fraction, fitness, possible):
    config = PBTConfig(quantile_fraction=fraction)
    draw = maybe_jit(lambda key: exploit(config, jnp.array(fitness), key))
    keys = jax.random.split(jax.random.key(0), 20)
    drawn = np.array(jax.vmap(draw)(keys))
    assert [set(column) for column in drawn.T.tolist()] == possible


def some_hparams():
    return Hyperparams(
        *(jnp.full(4, value) for value in Hyperparams()),
    )._replace(
        gamma=jnp.array([0.9, 0.99, 0.98, 0.95]),
        entropy_coef=jnp.array([0.1, 0.01, 0.04, 0.02]),
        clip_param=jnp.array([0.1, 0.2, 0.3, 0.4]),
    )


PARENT = jnp.array([1, 1, 2, 1])  # 0 and 3 continue 1


def test_who_continues_another_takes_its_values_and_moves_what_is_explored():
    """0.01 becomes 0.008 or 0.0125; a distance of 0.01 to 1 becomes the same."""
    config = PBTConfig((("entropy_coef", 1e-3, 1.0), ("gamma", 0.5, 0.999)))
    seen = {"entropy_coef": set(), "gamma": set()}
    for seed in range(20):
        after = explore(config, some_hparams(), PARENT, jax.random.key(seed))
        np.testing.assert_allclose(after.clip_param, [0.2, 0.2, 0.3, 0.2], 1e-6)
        for name, values in seen.items():
            before, now = getattr(some_hparams(), name), getattr(after, name)
            np.testing.assert_array_equal(now[1:3], before[1:3])
            values.update(np.round(np.array([now[0], now[3]], float), 5).tolist())
    assert seen == {"entropy_coef": {0.008, 0.0125}, "gamma": {0.992, 0.9875}}


def test_no_value_leaves_its_bounds():
    config = PBTConfig((("entropy_coef", 0.009, 0.011),))
    for seed in range(5):
        after = explore(config, some_hparams(), PARENT, jax.random.key(seed))
        assert set(np.round(np.array(after.entropy_coef, float), 5)[[0, 3]]) <= {
            0.009,
            0.011,
        }


def runs_at(iteration):
    """Four runs that differ in everything."""
    number = jnp.arange(4.0)
    episodes = jax.tree.map(lambda x: jnp.stack([x] * 4), init_episodes(2))
    return RunState(
        train=TrainState(
            params={"actor": number, "critic": 10 + number},
            obs_stats=20 + number,
            opt_state=30 + number,
            learning_rate=1e-3 * (1 + number),
            iteration=jnp.full(4, iteration),
        ),
        env_state=40 + number,
        obs={"policy": 50 + number[:, None]},
        carry={"actor": 70 + number[:, None], "critic": ()},
        episodes=episodes._replace(episode_return=60 + number[:, None]),
        key=jax.random.split(jax.random.key(iteration), 4),
    )


def step(config, iteration, num_iterations=100, num_recent=(9, 9, 9, 9)):
    metrics = {"episode_return": jnp.array([1.0, 4.0, 3.0, 2.0])}
    metrics["num_recent"] = jnp.array(num_recent)
    hparams = some_hparams()
    return evolve(config, num_iterations, runs_at(iteration), hparams, metrics)


def test_what_is_learned_is_copied_and_the_world_stays(maybe_jit):
    """Member 0 continues 1 with its weights, in its own environments."""
    runs, _, news = maybe_jit(lambda: step(PBTConfig(), 10))()
    assert news["parent"].tolist() == [1, 1, 2, 3]
    before = runs_at(10)
    for now, then in zip(
        jax.tree.leaves(runs.train), jax.tree.leaves(before.train), strict=True
    ):
        np.testing.assert_array_equal(now, then[news["parent"]])
    remembered = before.carry["actor"].at[0].set(0)  # of another network: forgotten
    np.testing.assert_array_equal(runs.carry["actor"], remembered)
    for name in ("env_state", "obs", "episodes"):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(runs, name), getattr(before, name)
        )
    assert (runs.key == before.key).all()


@pytest.mark.parametrize(
    ("iteration", "happens"), [(9, False), (10, True), (11, False), (100, False)]
)
def test_members_meet_every_interval_but_not_after_the_last_iteration(
    iteration, happens
):
    runs, hparams, news = step(PBTConfig((("gamma", 0.5, 0.999),)), iteration)
    assert (news["parent"].tolist() != [0, 1, 2, 3]) == happens
    np.testing.assert_array_equal(news["hparams/gamma"], some_hparams().gamma)
    changed = (hparams.gamma != some_hparams().gamma).tolist()
    assert changed == [happens, False, False, False]
    assert (runs.train.obs_stats[0] == 21) == happens


def test_who_has_no_episode_yet_is_the_worst(maybe_jit):
    """Its mean is 0 of 0, and no better than those below 0."""
    _, _, news = maybe_jit(lambda: step(PBTConfig(), 10, num_recent=(9, 0, 9, 9)))()
    assert news["parent"].tolist() == [0, 2, 2, 3]


def test_a_learning_rate_that_is_explored_becomes_the_state():
    """The rate is state: without this the explored one would never be used."""
    config = PBTConfig((("learning_rate", 1e-5, 1e-1),))
    runs, hparams, _ = step(config, 10)
    np.testing.assert_array_equal(runs.train.learning_rate, hparams.learning_rate)
    assert float(hparams.learning_rate[0]) != float(hparams.learning_rate[1])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bounds": (("hidden_dims", 1.0, 2.0),)}, "hidden_dims cannot be explored"),
        ({"bounds": (("gamma", 0.9, 0.9),)}, "gamma is explored from 0.9 to 0.9"),
        ({"quantile_fraction": 0.6}, "up to 0.5"),
        ({"perturbation_interval": 0}, "perturbation_interval = 0"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        PBTConfig(**settings)
