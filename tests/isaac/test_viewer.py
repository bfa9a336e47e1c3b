"""Isaac Lab's environments on the viewer's page, where Newton is their physics."""

import pytest

pytest.importorskip("isaaclab", reason="needs Isaac Lab: uv sync --extra isaaclab")
pytest.importorskip("viser", reason="needs the extra viewer")

from watching import assert_is_shown


@pytest.mark.parametrize(
    ("task", "is_told"), [("Isaac-Cartpole", True), ("Isaac-Cartpole-Direct", False)]
)
def test_isaac_lab_is_shown(make, task, is_told):
    assert_is_shown(make(task, num_envs=2, driver="host"), task, is_told)
