#!/usr/bin/env bash
# On a CPU the gradient of x @ w costs two turned copies of the result if x is [T, N, I], and none if it is [T * N, I].
#
# Seen with jax 0.12.0.1 and 0.10.2. The two functions are the same numbers in the same order of memory, and forwards the
# same program. For the gradient of w XLA turns the three-dimensional cotangent over to [N, T, H] and copies it back
# before it takes the product: twice 100 MB here, for a layer over 24 steps of 1024 environments. A reshape around each
# product takes both away; nothing in the result tells them apart.
#
# Output seen (the times are of one machine, two cores, not quiet):
#     jax 0.12.0.1: gradient of a layer 256 x 1024 over 24 x 1024 samples
#     [T, N, I]: 2 copies of the result, 1116 ms
#     [T * N, I]: 0 copies of the result, 432 ms
#     relative difference of the gradients: 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.12.0.1 jaxlib==0.12.0 numpy==2.3.5
cat >"$folder/product.py" <<'PY'
import math
import re
import time

import jax
import jax.numpy as jnp

T, N, I, H = 24, 1024, 256, 1024


def three(w, x):
    return ((x @ w) ** 2).sum()


def two(w, x):
    return ((x.reshape(-1, I) @ w) ** 2).sum()


w = jax.random.normal(jax.random.key(0), (I, H))
x = jax.random.normal(jax.random.key(1), (T, N, I))
print(f"jax {jax.__version__}: gradient of a layer {I} x {H} over {T} x {N} samples")
copies, gradients = {}, {}
for name, function in (("[T, N, I]", three), ("[T * N, I]", two)):
    compiled = jax.jit(jax.grad(function)).lower(w, x).compile()
    moved = re.findall(r"= f32\[([\d,]+)\]\S* (?:transpose|copy)\(", compiled.as_text())
    sizes = [math.prod(map(int, shape.split(","))) for shape in moved]
    copies[name] = sum(size == T * N * H for size in sizes)
    took = []
    for _ in range(8):
        started = time.perf_counter()
        gradients[name] = jax.block_until_ready(compiled(w, x))
        took.append(1000 * (time.perf_counter() - started))
    print(f"{name}: {copies[name]} copies of the result, {min(took):.0f} ms")
first, second = gradients.values()
print(f"relative difference of the gradients: {jnp.linalg.norm(first - second) / jnp.linalg.norm(second):.1g}")
assert jnp.allclose(first, second, rtol=1e-3, atol=1.0)
assert copies == {"[T, N, I]": 2, "[T * N, I]": 0}, f"this has changed: {copies}"
PY
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/product.py"
