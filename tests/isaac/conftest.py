"""Tests with the real Isaac Lab; they are skipped where it is not installed.

The assets are ours, small, and lie beside the tests. A process can hold one
environment at a time: `make` closes it at the end of the test.
"""

import functools
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["ISAACSIM_ASSET_ROOT"] = str(
    Path(__file__).parents[1] / "data" / "isaac_assets"
)

import launcher
import pytest

from ppo_jax.envs.isaac_lab import make_isaac_env, open_isaac_env, resolve_task


@pytest.fixture
def make():
    """Returns a function like `make_isaac_env`, which may also change the config."""
    made = []
    import_simulator()

    def make(task, num_envs=4, change=None, overrides=(), driver="in_jit", **kwargs):
        if change is None:
            env = make_isaac_env(
                task, num_envs, overrides=overrides, driver=driver, **kwargs
            )
        else:
            env_cfg, _ = resolve_task(task, None, overrides)
            env_cfg.scene.num_envs, env_cfg.seed = num_envs, 42
            change(env_cfg)
            env = open_isaac_env(task, env_cfg, {"device": "cpu"}, driver, **kwargs)
        made.append(env)
        return env

    yield make
    for env in made:
        env.close()


@functools.cache
def import_simulator():
    """Spares every closing, which looks for garbage, what is imported."""
    launcher.import_all(launcher.OF_ISAAC_LAB)
