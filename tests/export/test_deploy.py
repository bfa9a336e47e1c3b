"""The page on robots: its loop runs where jax is not, and acts as the policy does."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from policies_to_export import GRU, RNN, Case, observed

from ppo_jax.policies.models import ModelConfig

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"
MLP = ModelConfig(hidden_dims=(6,), obs_normalization=True)
FACTS = {
    "step_dt": "0.002",
    "action_scale": "0.500,0.250",
    "action_offset": "0.100,-1.000",
    "clip_actions": "0.5",
}
ROBOT = """
import numpy as np

class Robot:
    def __init__(self, facts):
        self.task, self.moves = facts["task"], []
        self.obs = np.load("obs.npy")

    def is_running(self):
        np.save("moves.npy", self.moves)
        return len(self.moves) < len(self.obs)

    def observe(self):
        return self.obs[len(self.moves)]

    def move(self, target):
        self.moves.append(target)
"""
# Runs the loop as a robot would, and fails where any of these is imported.
WITHOUT_JAX = """
import sys
absent = ["jax", "jaxlib", "flax", "torch", "ppo_jax", "envs"]
sys.modules.update(dict.fromkeys(absent))
exec(compile(open("loop.py").read(), "loop.py", "exec"))
assert [sys.modules[name] for name in absent] == [None] * len(absent)
"""


def loop():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return code


def test_the_loop_is_short():
    statements = [x for x in loop().splitlines() if x and "import" not in x]
    assert len(statements) <= 20


def run_loop(folder, obs):
    """Runs the loop as a robot would that senses these observations [T, D]."""
    np.save(folder / "obs.npy", obs)
    (folder / "robot.py").write_text(ROBOT)
    (folder / "loop.py").write_text(loop())
    argv = [sys.executable, "-c", WITHOUT_JAX]
    return subprocess.run(argv, cwd=folder, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "actor", [MLP, RNN, GRU], ids=["without memory", "lstm", "gru"]
)
def test_the_loop_of_the_page_moves_the_robot_as_the_policy_does(tmp_path, actor):
    """One whole episode; targets are offset + scale * the clipped action."""
    case = Case(actor)
    seen = observed(seed=3, is_first=np.zeros((30, 3), bool))
    case.export(tmp_path / "policy.onnx", seen, metadata=FACTS)
    run_loop(tmp_path, seen.obs["policy"][:, 0]).check_returncode()
    action = case.played(seen)[:, 0]
    assert np.abs(action).max() > 0.5, "nothing is clipped"
    wanted = np.array([0.1, -1.0]) + np.array([0.5, 0.25]) * action.clip(-0.5, 0.5)
    np.testing.assert_allclose(np.load(tmp_path / "moves.npy"), wanted, atol=1e-5)


def test_the_loop_does_not_move_on_a_nan(tmp_path):
    Case(GRU).export(tmp_path / "policy.onnx", metadata=FACTS)
    obs = np.ones((10, 5), np.float32)
    obs[4, 1] = np.nan
    ended = run_loop(tmp_path, obs)
    assert ended.returncode == 1
    assert "ValueError: what the robot senses is not a number" in ended.stderr
    assert len(np.load(tmp_path / "moves.npy")) == 4
