#!/usr/bin/env bash
# A transpose behind an optimization barrier is written to memory twice by XLA of jax 0.12 on a CPU, once by that of 0.10.
#
# Seen with jax 0.12.0.1 and 0.10.2. `optimization_barrier(x.T) @ g` is a way to have x turned over before the product,
# which XLA would else fold into it. Newer XLA gives the operand of the barrier the layout in which the transpose moves
# nothing, {0,1}, and yet emits a loop for it that copies all of x; then, after the barrier, another loop that turns it
# over. A layout constraint on the transpose (`jax.experimental.layout.with_layout_constraint`), which the product cannot
# fold either, gives one loop that does both.
#
# Output seen:
#     jax 0.10.2: barrier: 1 loop; layout constraint: 1 loop
#     jax 0.12.0.1: barrier: 2 loops; layout constraint: 1 loop
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/loops.py" <<'PY'
import sys

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

wanted = int(sys.argv[1])


def barrier(x, g):
    return jax.lax.optimization_barrier(x.T) @ g


def constraint(x, g):
    return with_layout_constraint(x.T, Layout(major_to_minor=(0, 1))) @ g


def loops(function):
    x, g = jnp.ones((512, 64)), jnp.ones((512, 32))
    _, entry = jax.jit(function).lower(x, g).compile().as_text().split("ENTRY")
    return sum("= f32[64,512]" in line and "kind=kLoop" in line for line in entry.splitlines())


seen = loops(barrier), loops(constraint)
print(f"jax {jax.__version__}: barrier: {seen[0]} loop{'s'[: seen[0] - 1]}; layout constraint: {seen[1]} loop")
assert seen == (wanted, 1), "this has changed"
PY
for release in "0.10.2 0.10.2 1" "0.12.0.1 0.12.0 2"; do
    read -r jax jaxlib wanted <<<"$release"
    "${PYTHON:-python3.12}" -m venv --clear "$folder/venv"
    "$folder/venv/bin/pip" install --quiet "jax==$jax" "jaxlib==$jaxlib" numpy==2.3.5
    JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/loops.py" "$wanted"
done
