#!/usr/bin/env bash
# On a CPU jnp.tanh is exactly 1 from 8.0 on, where float32 need not be before 9.01.
#
# Seen with jax 0.12.0.1 and 0.10.2. Rounded to float32 the tangent is below 1 up to 9.01; XLA's rational approximation
# is cut off at 7.9988, where the right number is 4 floats below 1. So arctanh(tanh(x)) is inf from there on, and
# log(1 - tanh(x)^2), the correction of a squashed Gaussian as SAC's paper writes it, is -inf for actions that float32
# could tell from the bound; the identity 2 (log 2 - x - softplus(-2x)) needs no tangent.
#
# Output seen:
#     jax 0.12.0.1, numpy 2.3.5
#     the first x whose tangent is 1: jax 7.9988, float64 rounded to float32 9.0109
#     arctanh(tanh(8)): jax inf, right 7.97
#     log(1 - tanh(8)^2): jax -inf, right -14.61
#     2 (log 2 - 8 - softplus(-16)): -14.61
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.12.0.1 jaxlib==0.12.0 numpy==2.3.5
cat >"$folder/tangent.py" <<'PY'
import jax
import jax.numpy as jnp
import numpy as np

x = np.linspace(7.0, 9.5, 250_001, dtype=np.float32)
right = np.tanh(x.astype(np.float64)).astype(np.float32)
found = np.asarray(jax.jit(jnp.tanh)(x))
first = lambda y: float(x[y == 1.0][0])
eight = np.float32(8.0)
print(f"jax {jax.__version__}, numpy {np.__version__}")
print(f"the first x whose tangent is 1: jax {first(found):.4f}, float64 rounded to float32 {first(right):.4f}")
print(f"arctanh(tanh(8)): jax {jnp.arctanh(jnp.tanh(eight))}, right {np.arctanh(right[x == eight][0]):.2f}")
print(f"log(1 - tanh(8)^2): jax {jnp.log(1 - jnp.tanh(eight) ** 2)}, right {np.log(1 - np.tanh(8.0) ** 2):.2f}")
print(f"2 (log 2 - 8 - softplus(-16)): {2 * (jnp.log(2.0) - eight - jax.nn.softplus(-2 * eight)):.2f}")
assert first(right) > 9.0
assert abs(first(found) - 7.9988) < 1e-3, "this has changed"
assert jnp.isinf(jnp.arctanh(jnp.tanh(eight))) and jnp.isinf(jnp.log(1 - jnp.tanh(eight) ** 2))
PY
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/tangent.py"
