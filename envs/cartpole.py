"""Isaac-Cartpole in pure JAX: balance a pole on a cart that a force pushes."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppo_jax.envs import drawing, solids
from ppo_jax.envs.painting import Label, Scene, Shape, bar, circle, rectangle
from ppo_jax.envs.solids import Solid, Stage
from ppo_jax.envs.task import total
from ppo_jax.types import Array, Continuous, Key, Obs

CART_MASS = 1.0  # kg
POLE_MASS = 1.0  # kg
POLE_COM = 0.47  # m, from the pivot up the pole
POLE_INERTIA = (0.06**2 + 1.0**2) / 12  # kg m^2, of a box about its centre of mass
RAIL_DAMPING = 10.0  # N s/m, of the cart's drive
GRAVITY = 9.81  # m/s^2

PHYSICS_DT = 1 / 120  # s
DECIMATION = 2  # physics steps per control step
FORCE_PER_ACTION = 100.0  # N
EFFORT_LIMIT = 400.0  # N, of the cart's drive
MAX_CART_POSITION = 3.0  # m, beyond it the episode fails

RESET_CART_POSITION = 1.0  # m
RESET_CART_VELOCITY = 0.5  # m/s
RESET_POLE_ANGLE = np.pi / 4  # rad
RESET_POLE_VELOCITY = np.pi / 4  # rad/s


class CartpoleState(NamedTuple):
    """Cart and pole; the angle is 0 upright and positive when leaning to -y."""

    cart_position: Array  # [] m
    pole_angle: Array  # [] rad, not wrapped
    cart_velocity: Array  # [] m/s
    pole_velocity: Array  # [] rad/s


@dataclass(frozen=True)
class Cartpole(drawing.Painted):
    """The MDP of Isaac Lab's Isaac-Cartpole-Direct, with its masses and geometry.

    Observed are cart position, pole angle, cart velocity, pole velocity: the order
    of the manager-based task. The direct one puts the pole first; the rest is equal.
    The joint speed caps that only PhysX knows are left out, and so are the rail ends
    at 4 m: no cart reaches them before the episode fails at 3 m.
    """

    @property
    def action_space(self) -> Continuous:
        """One number, a hundredth of the force on the cart in N."""
        return Continuous(1)

    @property
    def max_episode_length(self) -> int:
        """5 s."""
        return 300

    @property
    def step_dt(self) -> float:
        """Two physics steps: 60 Hz."""
        return DECIMATION * PHYSICS_DT

    def reset(self, key: Key) -> CartpoleState:
        """Draws a state near the middle of the rail, the pole within 45 degrees."""
        unit = jax.random.uniform(key, (4,), minval=-1.0, maxval=1.0)
        return CartpoleState(
            cart_position=RESET_CART_POSITION * unit[0],
            pole_angle=RESET_POLE_ANGLE * unit[1],
            cart_velocity=RESET_CART_VELOCITY * unit[2],
            pole_velocity=RESET_POLE_VELOCITY * unit[3],
        )

    def step(
        self, state: CartpoleState, action: Array, key: Key, common_step: Array
    ) -> tuple[CartpoleState, Array, Array, dict[str, Array]]:
        """Pushes the cart for one control step; see `Task.step`."""
        state = push(state, action)
        distance = jnp.abs(state.cart_position)
        terminated = distance > MAX_CART_POSITION
        reward = self.step_dt * total(reward_rates(state, terminated))
        success = distance <= MAX_CART_POSITION  # not ~terminated: NaN is no success
        log = {"Metrics/success_rate": success.astype(jnp.float32)}
        return state, reward, terminated, log

    def reward_terms(
        self, state: CartpoleState, action: Array, common_step: Array
    ) -> dict[str, Array]:
        """Returns of what the reward of `step` consists; {name: []}."""
        state = push(state, action)
        terminated = jnp.abs(state.cart_position) > MAX_CART_POSITION
        rates = reward_rates(state, terminated)
        return {name: self.step_dt * rate for name, rate in rates.items()}

    def observe(self, state: CartpoleState, key: Key) -> Obs:
        """Returns the state itself, [4], neither noisy nor scaled."""
        return {"policy": jnp.stack(state)}

    def scene(self, state: CartpoleState) -> Scene:
        """Shows cart, pole and rail from the side, +y to the right."""
        x, angle, cart_velocity, pole_velocity = (float(value) for value in state)
        title = (
            f"cart {x:+.2f} m, {cart_velocity:+.2f} m/s     "
            f"pole {np.degrees(angle):+.0f}°, {np.degrees(pole_velocity):+.0f}°/s"
        )
        return Scene(
            shapes=[*_cart(x), *_pole(x, angle)],
            labels=[Label(title)],
            still=RAIL,
            still_labels=SCALE,
            center=CENTER,
            height=HEIGHT,
        )

    @property
    def stage(self) -> Stage:
        """Seen from +x, the rail 1.2 m above the floor."""
        return Stage((8.2, 1.6, 1.9), (0.0, 0.0, 1.3))

    def solids(self, state: CartpoleState) -> dict[str, Solid]:
        """Returns cart, pole and rail; the rail lies along y."""
        y, angle = float(state.cart_position), float(state.pole_angle)
        pivot = np.array([0.14, y, RAIL_HEIGHT])
        up = np.array([0.0, -np.sin(angle), np.cos(angle)])
        cart = ((0.0, y, RAIL_HEIGHT), np.eye(3), (0.1, 0.2, 0.1), drawing.BLUE)
        return RAIL_SOLIDS | {
            "cart": solids.box(*cart),
            "axle": solids.bar(pivot - (0.06, 0, 0), pivot, 0.035, drawing.INK),
            "pole": solids.bar(pivot, pivot + up, 0.028, drawing.ORANGE),
        }


def reward_rates(state: CartpoleState, terminated: Array) -> dict[str, Array]:
    """Returns the reward per second by its terms, whose sum it is; {name: []}.

    rate = 1 (or -2 in the step that fails) - wrap(angle)^2 - 0.01 |cart velocity|
           - 0.005 |pole velocity|
    """
    lean = jnp.mod(state.pole_angle + np.pi, 2 * np.pi) - np.pi
    return {
        "alive": jnp.where(terminated, -2.0, 1.0),
        "pole upright": -(lean**2),
        "cart still": -0.01 * jnp.abs(state.cart_velocity),
        "pole still": -0.005 * jnp.abs(state.pole_velocity),
    }


def push(state: CartpoleState, action: Array) -> CartpoleState:
    """Pushes the cart for one control step."""
    force = jnp.clip(FORCE_PER_ACTION * action[0], -EFFORT_LIMIT, EFFORT_LIMIT)
    for _ in range(DECIMATION):
        state = physics_step(state, force)
    return state


def physics_step(state: CartpoleState, force: Array) -> CartpoleState:
    """Moves on by 1/120 s: semi-implicit Euler, implicit in the damping of the rail.

    With y the cart and q the pole, solves for the accelerations

        (M + m + h c) y'' - m l cos(q) q'' = F - c y' - m l sin(q) q'^2
        -m l cos(q) y'' + (I + m l^2) q''  = m g l sin(q)

    This is what MuJoCo's `implicitfast` integrator does with the same model.
    """
    _, angle, cart_velocity, pole_velocity = state
    moment = POLE_MASS * POLE_COM
    sin, cos = jnp.sin(angle), jnp.cos(angle)

    cart_inertia = CART_MASS + POLE_MASS + PHYSICS_DT * RAIL_DAMPING
    pole_inertia = POLE_INERTIA + moment * POLE_COM
    coupling = -moment * cos
    cart_force = force - RAIL_DAMPING * cart_velocity - moment * sin * pole_velocity**2
    pole_torque = GRAVITY * moment * sin

    determinant = cart_inertia * pole_inertia - coupling**2
    cart_acceleration = pole_inertia * cart_force - coupling * pole_torque
    pole_acceleration = cart_inertia * pole_torque - coupling * cart_force
    cart_velocity += PHYSICS_DT * cart_acceleration / determinant
    pole_velocity += PHYSICS_DT * pole_acceleration / determinant
    return CartpoleState(
        cart_position=state.cart_position + PHYSICS_DT * cart_velocity,
        pole_angle=angle + PHYSICS_DT * pole_velocity,
        cart_velocity=cart_velocity,
        pole_velocity=pole_velocity,
    )


def _rail_solids() -> dict[str, Solid]:
    """Returns the rail on two posts, which stand where an episode fails."""
    end = MAX_CART_POSITION + 0.2
    ends = {"left": -end, "right": end}
    start, stop = ((0.0, y, RAIL_HEIGHT) for y in ends.values())
    post, foot = (0.05, 0.05, RAIL_HEIGHT / 2), (0.3, 0.12, 0.02)
    seen = {"rail": solids.bar(start, stop, 0.03, drawing.GREY)}
    for name, y in ends.items():
        middle, below = (0.0, y, RAIL_HEIGHT / 2), (0.0, y, 0.02)
        seen[f"{name} post"] = solids.box(middle, np.eye(3), post, drawing.RED)
        seen[f"{name} foot"] = solids.box(below, np.eye(3), foot, drawing.INK)
    return seen


def _rail() -> list[Shape]:
    """Returns the rail, the band in which the episode lives, and ticks 1 m apart."""
    limit = MAX_CART_POSITION
    band = rectangle((-limit, -10), (limit, 10), fill="#ffffff", depth=9)
    dashes = {"color": drawing.RED, "width": 2.8, "dash": (3.7, 1.6), "depth": 8}
    return [
        band,
        *(bar((side, -10), (side, 10), **dashes) for side in (-limit, limit)),
        bar((-10, 0), (10, 0), drawing.GREY, 5.5, depth=7),
        *(bar((x, -0.3), (x, -0.22), drawing.GREY, 1.4, depth=7) for x in TICKS),
    ]


def _scale() -> list[Label]:
    """Returns what is written below the ticks; a picture is 4 wide and 3 high."""
    size, color = 11.0, drawing.GREY
    y = 0.5 + (-0.43 - CENTER[1]) / HEIGHT
    return [Label(f"{x} m", 0.5 + 0.75 * x / HEIGHT, y, size, color) for x in TICKS]


def _cart(x: float) -> list[Shape]:
    low, high = (x - 0.25, -0.1), (x + 0.25, 0.1)
    colors = {"fill": drawing.BLUE, "edge": drawing.INK, "width": 1.4}
    wheels = [(x - 0.15, -0.1), (x + 0.15, -0.1)]
    return [
        rectangle(low, high, 0.06, depth=5, **colors),
        *(circle(wheel, 0.065, fill=drawing.INK, depth=4) for wheel in wheels),
    ]


def _pole(x: float, angle: float) -> list[Shape]:
    """Returns the pole, 1 m long, and the upright that it should reach."""
    up = np.array([-np.sin(angle), np.cos(angle)])
    pivot = np.array([x, 0.05])
    bottom, top = pivot - 0.03 * up, pivot + 0.97 * up
    upright = {"width": 2.1, "dash": (1.0, 1.65), "depth": 6}
    return [
        bar((x, 0.15), (x, 1.25), drawing.GREY, **upright),
        bar(bottom, top, drawing.INK, 14, depth=3),
        bar(bottom, top, drawing.ORANGE, 10, depth=2),
        circle(pivot, 0.045, fill=drawing.INK, depth=1),
    ]


CENTER, HEIGHT = (0.0, 0.35), 4.9  # m, of a picture
TICKS = range(-2, 3)  # m
RAIL, SCALE = _rail(), _scale()  # painted once for all pictures of a film
RAIL_HEIGHT = 1.2  # m above the floor, in space
RAIL_SOLIDS = _rail_solids()


def mirrored(obs: Obs | None, action: Array | None) -> tuple[Obs | None, Array | None]:
    """The symmetry of the task: seen from the other side, everything is negated.

    For `symmetry_cfg.data_augmentation_func`: K = 2 blocks, the originals first.
    """
    return jax.tree.map(lambda x: jnp.concatenate([x, -x]), (obs, action))
