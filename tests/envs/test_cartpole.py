"""The dynamics of Cartpole against other derivations, and its MDP by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax.envs import cartpole
from ppo_jax.envs.cartpole import Cartpole, CartpoleState
from ppo_jax.envs.task import total

KEY = jax.random.key(0)
COMMON_STEP = 0
CART_MASS, POLE_MASS, POLE_COM = 1.0, 1.0, 0.47
POLE_INERTIA = (0.06**2 + 1.0**2) / 12


@pytest.fixture(scope="module")
def step():
    task = Cartpole()
    return jax.jit(lambda state, action: task.step(state, action, KEY, COMMON_STEP))


def make_state(*values):
    return CartpoleState(*(jnp.float32(value) for value in values))


def reward_rate(state, terminated):
    return total(cartpole.reward_rates(state, terminated))


def random_states(num_states):
    scale = np.array([1.0, 3.0, 2.0, 4.0])
    return np.random.default_rng(0).uniform(-scale, scale, (num_states, 4))


def mass_matrix(angle):
    """From the Jacobians of the two centres of mass, in (y, z), and of the angle."""
    cart = np.array([[1.0, 0.0], [0.0, 0.0]])
    pole = np.array(
        [[1.0, -POLE_COM * np.cos(angle)], [0.0, -POLE_COM * np.sin(angle)]]
    )
    spin = np.array([[0.0, 1.0]])
    return (
        CART_MASS * cart.T @ cart
        + POLE_MASS * pole.T @ pole
        + POLE_INERTIA * spin.T @ spin
    )


def energy(state):
    state = np.asarray(state, np.float64)
    angle, velocity = state[1], state[2:]
    kinetic = 0.5 * velocity @ mass_matrix(angle) @ velocity
    return kinetic + POLE_MASS * 9.81 * POLE_COM * np.cos(angle)


def lagrangian_step(state, force):
    """Semi-implicit Euler with M' by finite differences and implicit damping."""
    position, velocity = state[:2].copy(), state[2:].copy()
    eps, dt, angle = 1e-6, 1 / 120, position[1]
    slope = (mass_matrix(angle + eps) - mass_matrix(angle - eps)) / (2 * eps)
    torque = np.array([force, POLE_MASS * 9.81 * POLE_COM * np.sin(angle)])
    damping = np.diag([10.0, 0.0])
    bias = slope @ velocity * velocity[1]
    bias[1] -= 0.5 * velocity @ slope @ velocity
    velocity += dt * np.linalg.solve(
        mass_matrix(angle) + dt * damping, torque - damping @ velocity - bias
    )
    return np.concatenate([position + dt * velocity, velocity])


def test_a_step_is_two_steps_of_lagrange_equations_with_implicit_damping(step):
    action = np.linspace(-3.0, 3.0, 40)
    for state, push in zip(random_states(40), action, strict=True):
        new_state, *_ = step(make_state(*state), jnp.float32([push]))
        expected = lagrangian_step(lagrangian_step(state, 100 * push), 100 * push)
        np.testing.assert_allclose(new_state, expected, rtol=2e-5, atol=2e-5)


def test_energy_is_conserved_without_damping_as_the_step_shrinks(monkeypatch):
    monkeypatch.setattr(cartpole, "RAIL_DAMPING", 0.0)
    drift = []
    for steps in (1_000, 10_000):
        monkeypatch.setattr(cartpole, "PHYSICS_DT", 1.0 / steps)
        state = make_state(0.1, 0.5, -0.3, 2.0)
        end = jax.lax.fori_loop(
            0, steps, lambda _, s: cartpole.physics_step(s, 0.0), state
        )
        drift.append(abs(energy(end) - energy(state)))
    assert drift[0] < 0.05  # of some 6 J
    assert drift[1] < 0.2 * drift[0]


def test_damping_takes_energy_and_only_the_cart_feels_it(step):
    state = make_state(0.0, 0.0, 1.0, 0.0)
    coasting, *_ = step(state, jnp.zeros(1))
    assert energy(coasting) < energy(state)
    hanging = make_state(0.0, np.pi, 0.0, 0.0)
    still, *_ = step(hanging, jnp.zeros(1))
    np.testing.assert_allclose(still, hanging, atol=1e-4)


def test_mirrored_state_and_action_give_the_mirrored_step(step):
    for state in random_states(10):
        left, left_reward, left_end, _ = step(make_state(*state), jnp.float32([0.7]))
        right, right_reward, right_end, _ = step(
            make_state(*-state), jnp.float32([-0.7])
        )
        np.testing.assert_allclose(left, -np.array(right), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(left_reward, right_reward, rtol=1e-5, atol=1e-7)
        assert left_end == right_end


def test_force_saturates_at_400_newton(step):
    state = make_state(0.0, 0.1, 0.0, 0.0)
    limit, beyond, below = (
        step(state, jnp.float32([push]))[0] for push in (4.0, 50.0, 3.9)
    )
    np.testing.assert_array_equal(limit, beyond)
    assert limit.cart_velocity > below.cart_velocity


# 1 (or -2) - angle^2 - 0.01 |cart velocity| - 0.005 |pole velocity|
@pytest.mark.parametrize(
    ("state", "terminated", "expected"),
    [
        ((0.0, 0.0, 0.0, 0.0), False, 1.0),
        ((2.9, 0.0, 0.0, 0.0), False, 1.0),
        ((0.0, 0.5, 0.0, 0.0), False, 0.75),
        ((0.0, -0.5, 0.0, 0.0), False, 0.75),
        ((0.0, 0.0, -3.0, 0.0), False, 0.97),
        ((0.0, 0.0, 0.0, -4.0), False, 0.98),
        ((0.0, 2 * np.pi + 0.5, 0.0, 0.0), False, 0.75),  # one turn later
        ((0.0, np.pi + 0.5, 0.0, 0.0), False, 1 - (np.pi - 0.5) ** 2),
        ((3.1, 0.5, 1.0, 2.0), True, -2.27),
    ],
)
def test_reward_rate_matches_hand_arithmetic(maybe_jit, state, terminated, expected):
    rate = maybe_jit(reward_rate)(make_state(*state), jnp.bool_(terminated))
    np.testing.assert_allclose(rate, expected, rtol=1e-5)


def test_reward_is_its_rate_over_a_60th_of_a_second(step):
    state, reward, terminated, _ = step(
        make_state(0.3, 0.4, -1.0, 2.0), jnp.float32([1.0])
    )
    rate = reward_rate(state, terminated)
    np.testing.assert_allclose(reward, rate / 60, rtol=1e-6)


@pytest.mark.parametrize(
    ("start", "end"), [(2.95, False), (2.995, True), (-2.95, False), (-2.995, True)]
)
def test_episode_fails_beyond_3_m_of_the_new_position(step, start, end):
    """One step at 1 m/s is about 1.6 cm."""
    moving_out = make_state(start, 0.0, np.sign(start), 0.0)
    _, reward, terminated, log = step(moving_out, jnp.zeros(1))
    assert terminated == end
    assert (reward < 0) == end
    assert log["Metrics/success_rate"] == (not end)


def test_upright_at_rest_stays_and_returns_5_over_an_episode(step):
    state, episode_return = make_state(0.0, 0.0, 0.0, 0.0), 0.0
    for _ in range(Cartpole().max_episode_length):
        state, reward, _, _ = step(state, jnp.zeros(1))
        episode_return += reward
    np.testing.assert_array_equal(state, np.zeros(4))
    np.testing.assert_allclose(episode_return, 5.0, rtol=1e-5)


def test_reset_fills_its_ranges_around_zero():
    state = jax.vmap(Cartpole().reset)(jax.random.split(KEY, 4000))
    state = np.stack(state, axis=-1)
    half_width = np.array([1.0, np.pi / 4, 0.5, np.pi / 4])
    np.testing.assert_allclose(state.max(axis=0), half_width, rtol=0.01)
    np.testing.assert_allclose(state.min(axis=0), -half_width, rtol=0.01)
    assert np.all(np.abs(state) <= half_width * (1 + 1e-6))
    correlation = np.corrcoef(state.T) - np.eye(4)
    assert np.abs(correlation).max() < 0.06


def test_observation_is_cart_angle_cart_velocity_pole_velocity():
    obs = Cartpole().observe(make_state(1.0, 8.0, 3.0, 4.0), KEY)
    np.testing.assert_array_equal(obs["policy"], [1.0, 8.0, 3.0, 4.0])


def test_linear_feedback_balances_every_start():
    """The signs fit together: the gains are those of a linear-quadratic regulator."""
    task, gain = Cartpole(), jnp.float32([0.27, -1.88, 0.43, -0.41])

    def body(state, _):
        action = gain @ jnp.stack(state)
        state, reward, terminated, _ = task.step(state, action[None], KEY, COMMON_STEP)
        return state, (reward, terminated)

    def episode(key):
        return jax.lax.scan(body, task.reset(key), length=300)[1]

    reward, terminated = jax.jit(jax.vmap(episode))(jax.random.split(KEY, 64))
    assert not terminated.any()
    assert reward.sum(axis=1).min() > 4.5


MJCF = """
<mujoco>
  <option timestep="0.008333333333333333" integrator="implicitfast"/>
  <worldbody>
    <body>
      <joint name="slider" type="slide" axis="0 1 0" damping="10"/>
      <inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>
      <body>
        <joint name="pole" type="hinge" axis="1 0 0"/>
        <inertial pos="0 0 0.47" mass="1" diaginertia="0.08363333333 1 1"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="slider" ctrlrange="-400 400" ctrllimited="true"/></actuator>
</mujoco>
"""


def test_physics_is_that_of_mujoco_implicitfast(step):
    mujoco = pytest.importorskip("mujoco", reason="needs MuJoCo, of extra 'adapters'")
    model = mujoco.MjModel.from_xml_string(MJCF)
    data = mujoco.MjData(model)
    state = make_state(0.2, -0.4, 0.1, 0.3)
    data.qpos[:], data.qvel[:] = (0.2, -0.4), (0.1, 0.3)
    for push in np.random.default_rng(1).normal(size=60):
        state, *_ = step(state, jnp.float32([push]))
        data.ctrl[:] = 100 * push
        mujoco.mj_step(model, data, nstep=2)
        expected = np.concatenate([data.qpos, data.qvel])
        np.testing.assert_allclose(np.array(state), expected, rtol=1e-3, atol=1e-3)
