"""One policy on many devices: its laws run in processes that have as many."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import running

LAWS = Path(__file__).with_name("laws_of_shards.py")
EIGHT = "--xla_force_host_platform_device_count=8"
ONE_OF_SEVERAL = """
import sys, pytest
from ppo_jax.runs import cluster, processes

address, count, rank, *laws = sys.argv[1:]
with cluster.joined(cluster.Cluster(address, int(count), int(rank))):
    processes.least(0)  # gloo has 30 s to meet; compiling one by one may take longer
    sys.exit(pytest.main(["-n", "0", "-x", "-p", "no:cacheprovider", *laws]))
"""
BETWEEN_PROCESSES = (
    "test_the_first_gradient_is_that_of_one_device[1]",
    "test_statistics_are_those_of_all_rows[1.0]",
    "test_every_gradient_step_leaves_all_equal",
)
CARELESS = "--xla_backend_optimization_level=0"  # as `fast_jit`, for all programs
SECONDS = 480  # that several processes on a busy machine may take


@pytest.mark.slow
def test_the_laws_hold_on_eight_devices():
    """Each is a test of its own in `laws_of_shards.py`; what fails there is shown."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", str(LAWS)],
        env=os.environ | with_flag(EIGHT),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_the_laws_hold_in_real_processes(tmp_path, count):
    """The same functions, over gloo; those of one shard alone send nothing."""
    laws = [f"{LAWS}::{name}" for name in BETWEEN_PROCESSES]
    address = f"127.0.0.1:{running.free_port()}"
    together = [
        running.start(
            *(tmp_path, address, count, rank, *laws),
            code=ONE_OF_SEVERAL,
            **with_flag(CARELESS),
        )
        for rank in range(count)
    ]
    try:
        codes = ends_of(together)
    finally:
        for process in together:
            process.kill()
    said = [process.communicate()[0][-4000:] for process in together]
    assert codes == [0] * count, "\n".join(said)
    assert all(f"{len(laws)} passed" in words for words in said), said


def ends_of(together):
    """Exit codes of all when they have ended, or when one of them has failed."""
    until = time.monotonic() + SECONDS
    while True:
        codes = [process.poll() for process in together]
        if None not in codes or any(codes) or time.monotonic() > until:
            return codes
        time.sleep(0.1)


def with_flag(flag):
    return {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()}
