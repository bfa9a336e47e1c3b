"""What the command that starts several processes says of their ends."""

import subprocess
import sys

import pytest

from ppo_jax.cli import entry, workers

FAULT = 1


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        (((0, 0), (0, 0)), (0, 0)),
        (((0, entry.ANOTHER_ENDED), (0, FAULT)), (1, FAULT)),
        (((0, entry.ANOTHER_ENDED), (0.4, FAULT)), (1, FAULT)),
        (((0, FAULT), (0.4, entry.USAGE_ERROR)), (0, FAULT)),
        (((0, entry.ANOTHER_ENDED), (0, 0)), (0, entry.ANOTHER_ENDED)),
    ],
)
def test_the_code_is_that_of_the_first_with_a_fault_of_its_own(ends, told):
    code = (
        "import sys, time; time.sleep(float(sys.argv[1])); sys.exit(int(sys.argv[2]))"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, *map(str, end)]) for end in ends
    ]
    children[0].wait()
    assert workers._watch(children) == told


def test_one_that_does_not_end_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(workers, "SECONDS_TO_END", 0.2)
    codes = (f"raise SystemExit({FAULT})", "import time; time.sleep(1000)")
    children = [subprocess.Popen([sys.executable, "-c", code]) for code in codes]
    try:
        assert workers._watch(children) == (0, FAULT)
        assert children[1].poll() is None
    finally:
        children[1].kill()
