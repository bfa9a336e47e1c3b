"""What a robot must know, as text: mjlab's form, through the bridge to the file."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from ppo_jax.envs.bridge import BridgedEnv
from ppo_jax.envs.deployment import joined
from ppo_jax.envs.drivers import Link
from ppo_jax.envs.torch_env import TorchEnv
from ppo_jax.types import Continuous, EnvInfo

INFO = EnvInfo(1, Continuous(2), max_episode_length=5, step_dt=0.02)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (["hip", "knee"], "hip,knee"),
        ([0.5, 40, -0.3125], "0.500,40.000,-0.312"),
        ([True, 0], "1.000,0.000"),
        ([2.0, [0.5, 0.25]], "2.000,0.500;0.250"),
        ([(-math.inf, math.inf), (-1, 1)], "-inf;inf,-1.000;1.000"),
        (
            [float(np.float32(0.04)), 0.0004, -1 / 3000, math.nan],
            "0.040,0.0004,-0.0003333,nan",
        ),
        ([], ""),
    ],
)
def test_values_are_lines_as_mjlab_writes_them(values, line):
    """A small number is not rounded to 0: a robot would stand still, or burn."""
    assert joined(values) == line


class Arm(TorchEnv):
    info = INFO

    def deployment(self, groups):
        return {"joint_names": "hip,knee", "groups": joined(groups)}


class Silent(TorchEnv):
    info = INFO


def test_the_bridge_hands_on_what_a_simulator_tells():
    def told(torch_env):
        env = BridgedEnv(INFO, Link(torch_env, {}), "host")
        return env.deployment(("policy", "proprio"))

    assert told(Arm()) == {"joint_names": "hip,knee", "groups": "policy,proprio"}
    assert told(Silent()) == told(SimpleNamespace()) == {}
