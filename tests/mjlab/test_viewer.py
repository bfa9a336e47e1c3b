"""mjlab's environments on the viewer's page."""

import pytest

pytest.importorskip("mjlab", reason="needs mjlab: uv sync --extra mjlab")

from watching import assert_is_shown


def test_mjlab_is_shown(make):
    env = make(num_envs=2, driver="host")
    assert_is_shown(env, "mjlab:Mjlab-Cartpole-Balance", is_told=True)
