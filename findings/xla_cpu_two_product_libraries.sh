#!/usr/bin/env bash
# On a CPU x @ w and the gradient of w are computed by two different libraries; the same product by the other one differs.
#
# Seen with jax 0.12.0.1, on an x86 with AVX-512. XLA hands x @ w to YNNPACK, and also the gradient of x, but not the
# gradient of w: a product that contracts the first axis of both goes to Eigen. The same numbers, turned over before the
# program, are taken by YNNPACK, in two thirds of the time with the small layers of a policy, and nearly all of their
# product's numbers are others in the last digits.
#
# Output seen (the times are of one machine, one thread):
#     jax 0.12.0.1: 1024 x 32 x 32
#     x @ w: YNNPACK, 30 us
#     gradient of x: YNNPACK, 30 us
#     gradient of w: Eigen, 37 us
#     x turned before, @ g: YNNPACK, 24 us
#     the last two differ in 95% of their numbers, by 9.9e-05 at most
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.12.0.1 jaxlib==0.12.0 numpy==2.3.5
cat >"$folder/products.py" <<'PY'
import time

import jax
import jax.numpy as jnp

ROWS, WIDTH, REPEATS = 1024, 32, 1000
x = jax.random.normal(jax.random.key(0), (ROWS, WIDTH))
w = jax.random.normal(jax.random.key(1), (WIDTH, WIDTH))
g = jax.random.normal(jax.random.key(2), (ROWS, WIDTH))  # the gradient of x @ w

product = lambda x, w: x @ w
cases = {
    "x @ w": (product, (x, w)),
    "gradient of x": (lambda g, w: jax.vjp(lambda x: product(x, w), x)[1](g)[0], (g, w)),
    "gradient of w": (lambda x, g: jax.vjp(lambda w: product(x, w), w)[1](g)[0], (x, g)),
    "x turned before, @ g": (product, (x.T.copy(), g)),
}
print(f"jax {jax.__version__}: {ROWS} x {WIDTH} x {WIDTH}")
by, results = {}, {}
for name, (function, arguments) in cases.items():
    compiled = jax.jit(function).lower(*arguments).compile()
    by[name] = "YNNPACK" if "__ynn_fusion" in compiled.as_text() else "Eigen"
    results[name] = compiled(*arguments)

    def again(first, second, function=function):
        def step(first, _):
            return first + 0.0 * function(first, second)[0, 0], None

        return jax.lax.scan(step, first, length=REPEATS)[0]

    repeated, took = jax.jit(again), []
    for _ in range(6):
        started = time.perf_counter()
        jax.block_until_ready(repeated(*arguments))
        took.append(1e6 * (time.perf_counter() - started) / REPEATS)
    print(f"{name}: {by[name]}, {min(took):.0f} us")
one, other = results["gradient of w"], results["x turned before, @ g"]
print(f"the last two differ in {float((one != other).mean()):.0%} of their numbers, by {float(abs(one - other).max()):.1e} at most")
wanted = dict.fromkeys(cases, "YNNPACK") | {"gradient of w": "Eigen"}
assert by == wanted, f"this has changed: {by}"
assert jnp.allclose(one, other, rtol=1e-4, atol=1e-3) and (one != other).any()
PY
JAX_PLATFORMS=cpu PJRT_NPROC=1 "$folder/venv/bin/python" "$folder/products.py"
