"""Tests with the real mjlab, on a CPU; they are skipped where it is not installed."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("MJLAB_WARP_QUIET", "1")

import pytest

from ppo_jax.envs.mjlab_tasks import open_mjlab_env, resolve_task

CARTPOLE = "mjlab:Mjlab-Cartpole-Balance"
STEP_DT = 0.05  # s, of Cartpole


@pytest.fixture
def make():
    """Returns a function that makes Cartpole with episodes of so many steps."""
    made = []

    def make(
        task=CARTPOLE, num_envs=8, steps=None, change=None, overrides=(), **kwargs
    ):
        env_cfg, _ = resolve_task(task, overrides)
        if steps:
            env_cfg.episode_length_s = (steps - 0.5) * STEP_DT  # mjlab rounds up
        if change:
            change(env_cfg)
        env = open_mjlab_env(env_cfg, num_envs, **kwargs)
        made.append(env)
        return env

    yield make
    for env in made:
        env.close()
