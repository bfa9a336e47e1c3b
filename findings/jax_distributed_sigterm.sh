#!/usr/bin/env bash
# A process that has called jax.distributed.initialize() is not ended by SIGTERM.
#
# Seen with jax 0.12.0.1 on a CPU, with one process that is a cluster of its own. The preemption service, on by default,
# takes the signal for the note of a machine that is about to go, writes a line and lets the program run on; Python's
# default, that the process ends, is gone, and so is a handler that was set by signal.signal before. One that is set
# after it works. Slurm's scancel, `kill` and Kubernetes therefore wait for their SIGKILL, 30 s later as a rule,
# if a program does not poll `reached_preemption_sync_point`. With jax_enable_preemption_service=False the process
# ends as usual.
#
# Output seen:
#     jax 0.12.0.1
#     preemption service True , handler set no    : still runs
#     preemption service True , handler set before: still runs
#     preemption service True , handler set after : 7
#     preemption service False, handler set no    : -15
#     preemption service False, handler set before: 7
#     preemption service False, handler set after : 7
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.12.0.1 jaxlib==0.12.0 numpy==2.3.5
cat >"$folder/member.py" <<'PY'
import signal
import sys
import time

import jax

service, port, handler = sys.argv[1:]
jax.config.update("jax_enable_preemption_service", service == "True")


def end(number, frame):
    sys.exit(7)


if handler == "before":
    signal.signal(signal.SIGTERM, end)
jax.distributed.initialize(f"127.0.0.1:{port}", 1, 0)
if handler == "after":
    signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
for _ in range(600):
    time.sleep(0.1)
PY
cat >"$folder/ending.py" <<'PY'
import signal
import socket
import subprocess
import sys
from importlib.metadata import version


def ending(service, handler):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    member = subprocess.Popen(
        [sys.executable, "member.py", service, port, handler], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    member.stdout.readline()
    member.send_signal(signal.SIGTERM)
    try:
        return member.wait(10)
    except subprocess.TimeoutExpired:
        member.kill()
        return "still runs"


print("jax", version("jax"))
seen = {}
for service in ("True", "False"):
    for handler in ("no", "before", "after"):
        seen[service, handler] = ending(service, handler)
        print(f"preemption service {service:5}, handler set {handler:6}: {seen[service, handler]}", flush=True)
assert seen["True", "no"] == "still runs", "this has changed"
assert seen["False", "no"] == -signal.SIGTERM
assert seen["True", "before"] == "still runs" and seen["False", "before"] == 7
assert seen["True", "after"] == 7
PY
cd "$folder" && JAX_PLATFORMS=cpu timeout 300 venv/bin/python ending.py
