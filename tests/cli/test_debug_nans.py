"""With `JAX_DEBUG_NANS` every command works: no NaN is made on purpose in a program."""

import jax
import numpy as np
import pytest
from running import TINY, call

from ppo_jax.cli import play, sweep, train
from ppo_jax.runs import folders, metrics


@pytest.mark.slow
def test_every_command_works_while_jax_looks_for_nans(tmp_path, monkeypatch):
    """Also before the first episode has ended, which is when means are of nothing."""
    monkeypatch.chdir(tmp_path)
    with jax.debug_nans(True):
        assert call(train, *TINY, "--max_iterations=2", "--save_interval=1") == 0
        (run,) = (tmp_path / folders.LOG_ROOT / "Cartpole").iterdir()
        assert np.isnan(metrics.read_table(run)["episode_return"][0])
        assert call(train, "--resume", "--max_iterations=3") == 0
        assert call(play, "--num_envs=2") == 0
        grid = ("learning_rate=1e-3,1e-2", "--seeds=2", "--max_iterations=2")
        assert call(sweep, *TINY, *grid) == 0
