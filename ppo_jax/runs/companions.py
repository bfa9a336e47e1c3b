"""Processes beside a training, which it tells something and never waits for.

A thread would share Python's lock with training, and what hangs in one cannot be ended.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import IO, Any

START = (
    "import importlib, json, sys; path, module, order = map(json.loads, sys.argv[1:]); "
    "sys.path[:] = path; importlib.import_module(module).main(order)"
)


def start_companion(
    module: str, order: Mapping[str, Any], stderr: int | IO[bytes]
) -> subprocess.Popen[bytes]:
    """Starts `main(order)` of a module in a process that finds the same modules.

    Its stdin and stdout are pipes. It ends when its stdin does, and leaves the GPU and
    the terminal's signals to training.

    Args:
      module: as it is imported.
      order: for its `main`; it survives JSON.
      stderr: where its errors go, as `subprocess` takes it.
    """
    return subprocess.Popen(
        [sys.executable, "-c", START, *map(json.dumps, (sys.path, module, order))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        start_new_session=True,  # Ctrl-C is for training, which then tells it
    )
