"""The script for a GPU runs whole on a CPU, so that it runs where a GPU is lent."""

import os
import subprocess
import sys
from pathlib import Path

import careless
import pytest

pytest.importorskip("rsl_rl", reason="needs Isaac Lab and rsl_rl")

ROOT = Path(__file__).parents[2]


def test_every_section_runs_with_small_sizes_and_the_page_stays(tmp_path):
    page = (ROOT / "docs" / "gpu.md").read_text()
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py", "--small"],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": careless.FLAGS},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    for found in (
        "| nothing | as jax.jit compiles | 1 | 1 |",
        "needs a CUDA device",
        "Weights, optimizer, statistics: equal to the last bit. "
        "Metrics, iteration by iteration: equal to the last bit; equal to the last "
        "bit. Calls of the simulator",
        "with XLA's own options: 1 and 1.",
        "| ppo_jax, in_jit |",
        "failed: none",
    ):
        assert found in done.stdout
    assert (ROOT / "docs" / "gpu.md").read_text() == page
