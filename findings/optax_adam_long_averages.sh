#!/usr/bin/env bash
# optax's Adam corrects the bias of its averages with 1 - b2^t in float32: with a long average each step is of the wrong length.
#
# Seen with optax 0.2.8 and jax 0.12.0.1 on a CPU. Where the gradient is always 1, both averages are 1 after their correction, and each
# step has the length of the learning rate. With the usual b2 = 0.999 steps are 7e-6 too short, which is a hundred times float32's
# rounding; with 0.99999 they are 0.07 % too long, with 0.9999999 9 %, and not only the first ones: 1 - b2 keeps the few digits
# that float32 has so near to 1, and the average itself is made with 1 - b2 in Python's double precision. -expm1(t ln b2) has all digits.
# torch.optim.Adam computes its correction in double precision.
#
# Output seen:
#     jax 0.12.0.1, optax 0.2.8; too long by, at steps (1, 10, 100):
#     b2 0.999       -6.6e-06   -6.8e-06   -6.6e-06   with expm1 -4.8e-07
#     b2 0.99999      6.8e-04    7.0e-04    6.9e-04   with expm1  0.0e+00
#     b2 0.9999999    9.2e-02    9.2e-02    9.2e-02   with expm1  7.2e-07
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.12.0.1 jaxlib==0.12.0 numpy==2.3.5 optax==0.2.8
cat >"$folder/adam.py" <<'PY'
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

STEPS = (1, 10, 100)


def errors(b2):
    """Returns by how much steps are too long, of the learning rate."""
    optimizer = optax.adam(1.0, b2=b2, eps=1e-12)
    update, state, lengths = jax.jit(optimizer.update), optimizer.init(jnp.zeros(())), []
    for _ in range(max(STEPS)):
        step, state = update(jnp.ones(()), state)
        lengths.append(-float(step))
    return [lengths[number - 1] - 1.0 for number in STEPS]


def right(b2):
    """The same, with -expm1(t ln b2) in float32, at t = 100."""
    decay, nu = np.float32(b2), np.float32(0.0)
    for _ in range(100):
        nu = np.float32(nu * decay + np.float32(1.0 - b2))
    correction = -np.expm1(np.float32(100 * math.log(b2)))
    return float(1.0 / np.sqrt(nu / correction) - 1.0)


print(f"jax {jax.__version__}, optax {optax.__version__}; too long by, at steps {STEPS}:")
found = {}
for b2 in (0.999, 0.99999, 0.9999999):
    found[b2] = errors(b2)
    print(f"b2 {b2:<9}  " + "  ".join(f"{x:9.1e}" for x in found[b2]) + f"   with expm1 {right(b2):8.1e}")
for b2, least in ((0.999, 5e-6), (0.99999, 5e-4), (0.9999999, 5e-2)):
    assert min(map(abs, found[b2])) > least, "this has changed"
    assert abs(right(b2)) < least / 5
PY
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/adam.py"
