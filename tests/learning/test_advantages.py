"""Advantages and the value that follows each step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax import gae, successor_value

NEVER = [False, False, False]
AT_STEP_1 = [False, True, False]
AT_LAST = [False, False, True]


# TD errors: 1 + 10 - 10 = 1;  2 + 20 - 20 = 2;  3 + 25 - 30 = -2.  Decay 0.25.
@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        (NEVER, NEVER, [1.375, 1.5, -2.0]),
        (AT_STEP_1, NEVER, [-3.5, -18.0, -2.0]),  # 2 - 20: nothing beyond the end
        (NEVER, AT_STEP_1, [1.5, 2.0, -2.0]),  # value beyond, but no later reward
        (AT_STEP_1, AT_STEP_1, [-3.5, -18.0, -2.0]),  # both: terminated
        (AT_LAST, NEVER, [-0.1875, -4.75, -27.0]),  # 3 - 30;  2 - 27 / 4;  1 - 4.75 / 4
    ],
)
def test_gae_matches_hand_arithmetic(maybe_jit, terminated, truncated, expected):
    advantage = maybe_jit(gae)(
        reward=jnp.array([1.0, 2.0, 3.0]),
        value=jnp.array([10.0, 20.0, 30.0]),
        next_value=jnp.array([20.0, 40.0, 50.0]),
        terminated=jnp.array(terminated),
        truncated=jnp.array(truncated),
        gamma=0.5,
        lam=0.5,
    )
    np.testing.assert_allclose(advantage, expected, rtol=1e-6)


class Random:
    """Six random steps of four environments, some of which end."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.reward = rng.normal(size=(6, 4)).astype(np.float32)
        self.values = rng.normal(size=(7, 4)).astype(np.float32)
        self.final_value = rng.normal(size=(6, 4)).astype(np.float32)
        self.terminated = rng.random((6, 4)) < 0.3
        self.truncated = rng.random((6, 4)) < 0.3
        self.never = np.zeros((6, 4), bool)

    def unbroken(self):
        return self.reward, self.values[:-1], self.values[1:], self.never, self.never

    def broken(self):
        value, next_value = self.values[:-1], self.values[1:]
        return self.reward, value, next_value, self.terminated, self.truncated

    def by_rule(self, timeout_bootstrap, gamma, lam):
        value, last_value = self.values[:-1], self.values[-1]
        next_value, terminated = successor_value(
            value,
            last_value,
            self.terminated,
            self.truncated,
            self.final_value,
            timeout_bootstrap,
        )
        steps = (self.reward, value, next_value, terminated, self.truncated)
        return gae(*steps, gamma=gamma, lam=lam)


def test_lambda_one_is_discounted_return_minus_value():
    run = Random()
    advantage = gae(*run.unbroken(), gamma=0.9, lam=1.0)
    discount = 0.9 ** np.arange(7.0)
    discounted_return = discount[:6] @ run.reward + discount[6] * run.values[6]
    np.testing.assert_allclose(
        advantage[0], discounted_return - run.values[0], rtol=1e-5, atol=1e-6
    )


def test_lambda_zero_is_the_td_error():
    run = Random()
    advantage = gae(*run.unbroken(), gamma=0.9, lam=0.0)
    td_error = run.reward + 0.9 * run.values[1:] - run.values[:-1]
    np.testing.assert_allclose(advantage, td_error, rtol=1e-5, atol=1e-6)


def test_an_episode_is_estimated_as_if_it_were_alone():
    """Nothing of the next episode reaches back over an end."""
    run = Random()
    end = run.never.copy()
    end[2] = True
    for ends in [(end, run.never), (run.never, end)]:
        whole = (*run.unbroken()[:3], *ends)
        first = [x[:3] for x in whole]
        np.testing.assert_array_equal(
            gae(*whole, gamma=0.9, lam=0.8)[:3], gae(*first, gamma=0.9, lam=0.8)
        )


@pytest.mark.parametrize("column", range(4))
def test_a_block_is_its_columns_side_by_side(column):
    steps = Random().broken()
    block = gae(*steps, gamma=0.9, lam=0.8)
    alone = gae(*(x[:, column] for x in steps), gamma=0.9, lam=0.8)
    np.testing.assert_allclose(block[:, column], alone, rtol=1e-6)


def test_scalars_can_be_mapped():
    steps = Random().broken()
    lams = jnp.array([0.0, 0.5, 1.0])
    mapped = jax.vmap(lambda lam: gae(*steps, gamma=0.9, lam=lam))(lams)
    for row, lam in zip(mapped, lams, strict=True):
        np.testing.assert_allclose(row, gae(*steps, gamma=0.9, lam=lam), rtol=1e-5)


# Values 10, 20, 30 and 40 after the last step; V(final_obs) is 7, or 8 at the last.
# Each row: what follows step 1 or the last step, and whether gae sees a termination.
@pytest.mark.parametrize(
    ("rule", "terminated", "truncated", "next_value", "seen_as_terminated"),
    [
        ("final_obs", NEVER, NEVER, [20, 30, 40], NEVER),
        ("final_obs", NEVER, AT_STEP_1, [20, 7, 40], NEVER),
        ("final_obs", AT_STEP_1, AT_STEP_1, [20, None, 40], AT_STEP_1),
        ("final_obs", NEVER, AT_LAST, [20, 30, 8], NEVER),
        ("last_value", NEVER, NEVER, [20, 30, 40], NEVER),
        ("last_value", NEVER, AT_STEP_1, [20, 20, 40], NEVER),
        ("last_value", AT_STEP_1, NEVER, [20, None, 40], AT_STEP_1),
        ("last_value", AT_STEP_1, AT_STEP_1, [20, 20, 40], NEVER),  # rsl_rl's quirk
        ("last_value", NEVER, AT_LAST, [20, 30, 30], NEVER),
        ("none", NEVER, NEVER, [20, 30, 40], NEVER),
        ("none", NEVER, AT_STEP_1, [20, None, 40], AT_STEP_1),
        ("none", AT_STEP_1, AT_STEP_1, [20, None, 40], AT_STEP_1),
    ],
)
def test_successor_value_by_rule(
    maybe_jit, rule, terminated, truncated, next_value, seen_as_terminated
):
    successor = maybe_jit(
        lambda terminated, truncated: successor_value(
            value=jnp.array([10.0, 20.0, 30.0]),
            last_value=jnp.array(40.0),
            terminated=terminated,
            truncated=truncated,
            final_value=jnp.array([0.0, 7.0, 8.0]),
            timeout_bootstrap=rule,
        )
    )
    actual, ends = successor(jnp.array(terminated), jnp.array(truncated))
    np.testing.assert_array_equal(ends, seen_as_terminated)
    read = [value is not None for value in next_value]  # gae reads no other
    np.testing.assert_array_equal(actual[np.array(read)], [v for v in next_value if v])


def test_last_value_is_the_recursion_of_rsl_rl():
    """There the bootstrap is added to the reward, before any end is looked at."""
    run, gamma, lam = Random(), 0.9, 0.8
    reward, values = np.float64(run.reward), np.float64(run.values)
    reward = reward + gamma * values[:-1] * run.truncated
    alive = ~np.asarray(run.terminated | run.truncated)
    expected, advantage = np.zeros((6, 4)), np.zeros(4)
    for t in reversed(range(6)):
        delta = reward[t] + alive[t] * gamma * values[t + 1] - values[t]
        advantage = delta + alive[t] * gamma * lam * advantage
        expected[t] = advantage
    actual = run.by_rule("last_value", gamma, lam)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    assert (run.terminated & run.truncated).any(), "the quirk must be covered"


def test_rules_differ_only_where_an_episode_was_cut():
    run = Random()
    run.truncated = run.never
    exact, by_last = (
        run.by_rule("final_obs", 0.9, 0.8),
        run.by_rule("last_value", 0.9, 0.8),
    )
    np.testing.assert_array_equal(exact, by_last)
    np.testing.assert_array_equal(exact, run.by_rule("none", 0.9, 0.8))


def test_none_takes_a_cut_for_a_termination():
    run = Random()
    cut = run.by_rule("none", 0.9, 0.8)
    run.terminated, run.truncated = run.terminated | run.truncated, run.never
    np.testing.assert_array_equal(cut, run.by_rule("final_obs", 0.9, 0.8))


def test_no_value_is_needed_where_none_is_read():
    """NaN after a termination (or V(final_obs) of an uncut step) does no harm."""
    run = Random()
    clean = run.by_rule("final_obs", 0.9, 0.8)
    run.final_value[~run.truncated | run.terminated] = np.nan
    np.testing.assert_array_equal(run.by_rule("final_obs", 0.9, 0.8), clean)


def test_nan_is_not_hidden_and_stays_in_its_environment():
    run = Random()
    clean = gae(*run.unbroken(), gamma=0.9, lam=0.8)
    run.reward[3, 1] = np.nan
    advantage = gae(*run.unbroken(), gamma=0.9, lam=0.8)
    np.testing.assert_array_equal(advantage[:, [0, 2, 3]], clean[:, [0, 2, 3]])
    np.testing.assert_array_equal(advantage[4:], clean[4:])
    assert np.isnan(advantage[:4, 1]).all()


def test_wrong_shapes_and_types_are_refused():
    run = Random()
    with pytest.raises(AssertionError):
        gae(run.reward[..., None], *run.unbroken()[1:], gamma=0.9, lam=0.8)
    with pytest.raises(AssertionError):
        gae(*run.unbroken()[:4], run.never.astype(float), gamma=0.9, lam=0.8)
