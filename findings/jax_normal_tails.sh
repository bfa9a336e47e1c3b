#!/usr/bin/env bash
# jax.random.normal in float32 ends at -5.42 on one side and at +5.22 on the other.
#
# Seen with jax 0.12.0.1 and 0.10.2 on a CPU. The sample is sqrt(2) erfinv(u) of a uniform number from (-1, 1) that has
# 23 random bits: the steps of u are as wide as that at both ends, and the lower end is one float above -1, the
# upper one step below 1. Of 2^29 samples of a normal distribution some 16 are below -5.42, and some 48 above 5.22. In
# JAX none is, and the two ends are drawn again and again; NumPy goes on as it should.
#
# Output seen:
#     jax 0.12.0.1, numpy 2.3.5: 2^29 samples of each
#     jax    -5.42 to 5.22, 84 times the least, 54 times the greatest
#     numpy  -6.23 to 5.92, 1 times the least, 1 times the greatest
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.12.0.1 jaxlib==0.12.0 numpy==2.3.5
cat >"$folder/tails.py" <<'PY'
import jax
import jax.numpy as jnp
import numpy as np

CHUNK, CHUNKS = 2**24, 32


@jax.jit
def ends_of_jax(key):
    x = jax.random.normal(key, (CHUNK,))
    low, high = x.min(), x.max()
    return low, jnp.sum(x == low), high, jnp.sum(x == high)


def ends_of_numpy(generator):
    x = generator.standard_normal(CHUNK, dtype=np.float32)
    low, high = x.min(), x.max()
    return low, np.sum(x == low), high, np.sum(x == high)


def together(ends):
    low, num_low, high, num_high = (np.array(column) for column in zip(*ends))
    count = lambda end, num: int(num[end].sum())
    return (
        *(float(low.min()), count(low == low.min(), num_low)),
        *(float(high.max()), count(high == high.max(), num_high)),
    )


keys = jax.random.split(jax.random.key(0), CHUNKS)
jax_ends = together([ends_of_jax(key) for key in keys])
generator = np.random.default_rng(0)
numpy_ends = together([ends_of_numpy(generator) for _ in range(CHUNKS)])
print(f"jax {jax.__version__}, numpy {np.__version__}: 2^29 samples of each")
for name, (low, num_low, high, num_high) in {"jax": jax_ends, "numpy": numpy_ends}.items():
    print(f"{name:6} {low:.2f} to {high:.2f}, {num_low} times the least, {num_high} times the greatest")
assert (round(jax_ends[0], 2), round(jax_ends[2], 2)) == (-5.42, 5.22), "this has changed"
assert jax_ends[1] > 10 and jax_ends[3] > 10
assert numpy_ends[0] < -5.6 and numpy_ends[2] > 5.6
PY
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/tails.py"
