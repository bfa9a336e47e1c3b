#!/usr/bin/env bash
# A jitted program that holds one callback with a side effect is started by Python, argument by argument, at every call.
#
# Seen with jax 0.12.0.1, 0.11.2 and 0.10.2. A compiled program is started from C++, and Python enters none of jax's
# functions. With one callback that is marked to have a side effect (`buffer_callback`, `io_callback`) every start goes
# through Python's dispatch, about 60 functions an argument: with the state of a training (40 arrays) 2,500 of them, ten
# times as long, before the device is told anything. `pure_callback` and a `buffer_callback` that claims no side effect
# keep the fast start (what they show below is the callback itself). Nothing says so; it is seen in a profile only.
#
# Output seen (the times are of one machine):
#     jax 0.12.0.1, 40 arrays in and out
#     nothing called back: 0 Python calls, 63 us
#     buffer_callback: 4 Python calls, 70 us
#     buffer_callback with a side effect: 2489 Python calls, 563 us
#     pure_callback: 86 Python calls, 162 us
#     io_callback: 2571 Python calls, 666 us
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.12.0.1 jaxlib==0.12.0 numpy==2.3.5
cat >"$folder/dispatch.py" <<'PY'
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback
from jax.experimental.buffer_callback import buffer_callback

ARRAYS = 40
LIKE = jax.ShapeDtypeStruct((4,), jnp.float32)


def fill(context, out, x):
    np.asarray(out)[...] = 0.0


def zeros(x):
    return np.zeros(4, np.float32)


def python_calls(run, *args):
    """Returns how many of jax's functions Python enters to start a compiled program."""
    count = 0

    def note(frame, event, _):
        nonlocal count
        count += event == "call" and "site-packages/jax/" in frame.f_code.co_filename

    jax.block_until_ready(run(*args))
    sys.setprofile(note)
    out = run(*args)
    sys.setprofile(None)
    jax.block_until_ready(out)
    return count


def microseconds(run, *args):
    took = []
    for _ in range(200):
        started = time.perf_counter()
        jax.block_until_ready(run(*args))
        took.append(1e6 * (time.perf_counter() - started))
    return min(took)


def program(call):
    return jax.jit(lambda x, rest: (call(x), rest))


ways = {
    "nothing called back": lambda x: x + 1.0,
    "buffer_callback": buffer_callback(fill, LIKE),
    "buffer_callback with a side effect": buffer_callback(fill, LIKE, has_side_effect=True),
    "pure_callback": lambda x: jax.pure_callback(zeros, LIKE, x),
    "io_callback": lambda x: io_callback(zeros, LIKE, x),
}
x, rest, found = jnp.ones(4), [jnp.zeros(3) for _ in range(ARRAYS)], {}
print(f"jax {jax.__version__}, {ARRAYS} arrays in and out")
for name, call in ways.items():
    run = program(call)
    found[name] = python_calls(run, x, rest)
    print(f"{name}: {found[name]} Python calls, {microseconds(run, x, rest):.0f} us")
slow = {"buffer_callback with a side effect", "io_callback"}
assert all(found[name] > 1000 for name in slow), "this has changed: they start as fast as the others"
assert all(found[name] < 200 for name in ways if name not in slow), found
PY
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/dispatch.py"
