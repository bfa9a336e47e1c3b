"""One policy on eight devices: its laws run in a process that has as many."""

import os
import subprocess
import sys
from pathlib import Path

LAWS = Path(__file__).with_name("laws_of_shards.py")
EIGHT = "--xla_force_host_platform_device_count=8"


def test_the_laws_hold_on_eight_devices():
    """Each is a test of its own in `laws_of_shards.py`; what fails there is shown."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {EIGHT}".strip()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", str(LAWS)],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
