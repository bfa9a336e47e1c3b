"""Recall: a cue is seen once and asked for later. Without memory half of all is won."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ppo_jax.envs import drawing, solids
from ppo_jax.envs.painting import Label, Scene, circle
from ppo_jax.envs.solids import Solid, Stage
from ppo_jax.types import Array, Continuous, Key, Obs

MIN_DELAY, MAX_DELAY = 4, 12  # steps from the cue to the question


class RecallState(NamedTuple):
    """What was shown, and when it is asked for."""

    cue: Array  # [] -1 or 1
    delay: Array  # [] int32, steps from the cue to the question
    step: Array  # [] int32, steps taken


@dataclass(frozen=True)
class Recall(drawing.Painted):
    """A cue, left or right, is shown once; some steps later an arm has to point there.

    Observed are (cue, 0) in the first step, (0, 0) while waiting, and (0, 1) when it is
    asked for; then the episode ends, and pays 1 if the action has the cue's sign.

    A policy without memory wins exactly 1/2, whatever it does: in the step that pays it
    sees (0, 1) after either cue, so its action is independent of a cue of mean 0. One
    with memory wins 1.

    Source: the T-maze of Bakker 2002 (Reinforcement learning with LSTM), without maze.
    """

    @property
    def action_space(self) -> Continuous:
        """One number; its sign is the answer."""
        return Continuous(1)

    @property
    def max_episode_length(self) -> int:
        """One more than the longest episode: only those begun half-way are cut."""
        return MAX_DELAY + 2

    @property
    def step_dt(self) -> float:
        """0.1 s, for videos."""
        return 0.1

    def reset(self, key: Key) -> RecallState:
        """Draws the cue and the delay."""
        cue_key, delay_key = jax.random.split(key)
        shape, least, most = (), MIN_DELAY, MAX_DELAY + 1
        return RecallState(
            cue=jax.random.rademacher(cue_key, shape, jnp.float32),
            delay=jax.random.randint(delay_key, shape, least, most, jnp.int32),
            step=jnp.zeros(shape, jnp.int32),
        )

    def step(
        self, state: RecallState, action: Array, key: Key, common_step: Array
    ) -> tuple[RecallState, Array, Array, dict[str, Array]]:
        """Waits, or takes the answer; see `Task.step`."""
        asked = state.step == state.delay
        reward = (asked & (action[0] * state.cue > 0)).astype(jnp.float32)
        log = {"Metrics/success_rate": reward}
        return state._replace(step=state.step + 1), reward, asked, log

    def observe(self, state: RecallState, key: Key) -> Obs:
        """Returns the cue, 0 after the first step, and whether it is asked for; [2]."""
        nothing = state.cue - state.cue  # 0, and NaN where the cue is
        cue = jnp.where(state.step == 0, state.cue, nothing)
        asked = (state.step == state.delay).astype(jnp.float32)
        return {"policy": jnp.stack([cue, asked])}

    def scene(self, state: RecallState) -> Scene:
        """Shows the lamp that is lit: left or right is the cue, the middle asks."""
        cue, delay, step = float(state.cue), int(state.delay), int(state.step)
        lamps = [
            circle((place, 0.0), 0.35, fill=color, edge=drawing.INK, width=1.4)
            for place, color in _lamps(state).items()
        ]
        side = "left" if cue < 0 else "right"
        title = Label(f"step {step} of {delay}     the cue was {side}")
        return Scene(lamps, [title], height=4.0)

    @property
    def stage(self) -> Stage:
        """Three lamps in a row, seen from the front."""
        return Stage(eye=(0.0, -4.2, 1.6), target=(0.0, 0.0, 0.5))

    def solids(self, state: RecallState) -> dict[str, Solid]:
        """Returns the three lamps, as in the picture."""
        return {
            f"lamp {place:+.0f}": solids.ball((place, 0.0, 0.6), 0.35, color)
            for place, color in _lamps(state).items()
        }


def _lamps(state: RecallState) -> dict[float, str]:
    """Returns the colours of the lamps by place; one is lit, or none."""
    lit = {0: float(state.cue), int(state.delay): 0.0}.get(int(state.step))
    places = (-1.0, 0.0, 1.0)
    return {place: drawing.ORANGE if place == lit else "#ffffff" for place in places}
