#!/usr/bin/env bash
# On a CPU the vector width that a program is compiled for changes the digits of a matrix times a vector, and of little else.
#
# Seen with jax 0.12.0.1, on an x86 with AVX-512. `xla_cpu_prefer_vector_width` (256 by default, also where the machine
# has 512) looks like a matter of speed. Exponentials, sums, divisions and products of two matrices keep every bit. A
# product with a single column is neither of the two libraries' but XLA's own code, which adds up as many numbers at a
# time as a vector holds: the value head of a policy, and all that is learned from it, gets other digits.
#
# Output seen:
#     jax 0.12.0.1
#     exp: same; tanh: same; sum of rows: same; sum of columns: same; division: same; matrix @ matrix: same
#     matrix @ vector: 56% of the numbers differ, by 1.9e-06 at most
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.12.0.1 jaxlib==0.12.0 numpy==2.3.5
cat >"$folder/widths.py" <<'PY'
import jax
import jax.numpy as jnp
import numpy as np

x = jax.random.normal(jax.random.key(0), (1024, 37))
w = jax.random.normal(jax.random.key(1), (37, 33))
cases = {
    "exp": lambda x, w: jnp.exp(x),
    "tanh": lambda x, w: jnp.tanh(x),
    "sum of rows": lambda x, w: x.sum(axis=1),
    "sum of columns": lambda x, w: x.sum(axis=0),
    "division": lambda x, w: x / (x * x + 1.0),
    "matrix @ matrix": lambda x, w: x @ w,
    "matrix @ vector": lambda x, w: x @ w[:, 0],
}
print(f"jax {jax.__version__}")
differ = {}
for name, function in cases.items():
    lowered = jax.jit(function).lower(x, w)
    narrow, wide = (
        np.asarray(lowered.compile(compiler_options={"xla_cpu_prefer_vector_width": width})(x, w))
        for width in (256, 512)
    )
    differ[name] = (float((narrow != wide).mean()), float(abs(narrow - wide).max()))
print("; ".join(f"{name}: same" for name, (share, _) in differ.items() if not share))
for name, (share, most) in differ.items():
    if share:
        print(f"{name}: {share:.0%} of the numbers differ, by {most:.1e} at most")
assert [name for name, (share, _) in differ.items() if share] == ["matrix @ vector"], "this has changed"
assert differ["matrix @ vector"][1] < 1e-5
PY
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/widths.py"
