"""A sweep in one real simulator: `sweep.py --population`, as a user types it."""

import time

import pytest
import running
from isaac_scripts import MINUTES, SMALL, call

pytest.importorskip("isaaclab", reason="needs Isaac Lab: uv sync --extra isaaclab")

import numpy as np
from sweeping import table_of

from ppo_jax.cli import entry
from ppo_jax.cli import sweep as script
from ppo_jax.runs import checkpoint, folders, metrics

FOUR = ("--population", "4", "--num_envs", "32", "--max_iterations", "12")
RATES = ("schedule=fixed", "learning_rate=1e-4,1e-3,3e-3,1e-2")
PBT = ("--pbt", "--perturbation_interval", "2", "save_interval=2")
SHORT = "env.episode_length_s=0.5"  # 30 steps, of 16 an iteration


def newest(home):
    return max((home / script.SWEEPS).iterdir())


def wait_for(home, name, process):
    """Waits until a sweep has a file of this name."""
    ends = time.monotonic() + MINUTES
    while not list((home / script.SWEEPS).glob(f"*/{name}")):
        assert process.poll() is None, running.finish(process)
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_a_population_learns_in_one_simulator_and_survives_a_kill(tmp_path):
    """SIGKILL after the first save; each member has every iteration once."""
    argv = (*SMALL, *FOUR, *RATES, *PBT, SHORT)
    script = str(running.ROOT / "sweep.py")
    process = running.start(tmp_path, script, *argv)
    wait_for(tmp_path, "chunks/stage0_program0_chunk0", process)
    process.kill()
    running.finish(process)
    folder = newest(tmp_path)
    saved = {path.name for path in (folder / "chunks").glob("stage*")}
    assert len(saved) < 6
    assert "episode_length_s: 0.5" in (folder / "env.yaml").read_text()

    out, _ = call(tmp_path, "sweep.py", "--resume")
    assert "Resuming" in out
    table = table_of(folder)
    np.testing.assert_array_equal(table["member"], np.repeat(np.arange(4), 12))
    np.testing.assert_array_equal(table["iteration"], np.tile(np.arange(12), 4))
    assert set(table["env_steps"]) == {(i + 1) * 8 * 16 for i in range(12)}
    assert (table["simulator/Perf/simulation_time"] > 0).all()
    assert len(set(table["learning_rate"])) > 4, "nobody has explored"

    out, _ = call(tmp_path, "sweep.py", "--export", "best")
    (run,) = (tmp_path / folders.LOG_ROOT / "cartpole_direct").iterdir()
    assert checkpoint.iterations(run) == [12]
    assert metrics.read_table(run)["iteration"] == list(range(12))


def test_members_learn_on_the_host_driver_too(tmp_path):
    """Two seeds; tests/test_bridge.py says that both drivers give the same numbers."""
    argv = (*SMALL, "--bridge", "host", "--population", "2", "--num_envs", "16")
    call(tmp_path, "sweep.py", *argv, "--seeds", "2", "--max_iterations", "2", SHORT)
    table = table_of(newest(tmp_path))
    first, second = table["loss"].reshape(2, 2)
    assert np.isfinite(table["loss"]).all()
    assert (first != second).all()


def test_a_simulator_is_not_swept_without_a_population(tmp_path):
    argv = ("--task", SMALL[1], "--seeds", "2")
    _, err = call(tmp_path, "sweep.py", *argv, expected=entry.USAGE_ERROR)
    assert "give --population P" in err
