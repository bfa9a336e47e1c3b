#!/usr/bin/env bash
# In JAX, NaN * False is 0.
#
# Seen with jax 0.12.0.1 and 0.10.2 on a CPU. A product with a converted bool is made a select by XLA's algebraic
# simplifier, so NaN and inf vanish where the flag is False; NumPy gives NaN. It happens outside of jit as well,
# since `jnp.multiply` is a program of its own that holds the conversion. Converted first, in a program of its own, the
# flag is a number, and the product is NaN: the same expression gives another result with and without jit. So a reward
# masked by `reward * ~done` hides a NaN of the simulator from every check behind it.
#
# Output seen:
#     jax 0.12.0.1; numpy nan
#     jax   x * flag               0.0  jit 0.0
#     jax   x * flag.astype(f32)   nan  jit 0.0
#     jax   inf * flag             0.0  jit 0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.12.0.1 jaxlib==0.12.0 numpy==2.3.5
cat >"$folder/mask.py" <<'PY'
import jax
import jax.numpy as jnp
import numpy as np

flag, nan, inf = jnp.array(False), jnp.float32(jnp.nan), jnp.float32(jnp.inf)
direct = lambda x, flag: x * flag
converted = lambda x, flag: x * flag.astype(jnp.float32)
seen = {
    "x * flag": (direct(nan, flag), jax.jit(direct)(nan, flag)),
    "x * flag.astype(f32)": (converted(nan, flag), jax.jit(converted)(nan, flag)),
    "inf * flag": (direct(inf, flag), jax.jit(direct)(inf, flag)),
}
with np.errstate(invalid="ignore"):
    numpy = np.float32(np.nan) * np.bool_(False)
print(f"jax {jax.__version__}; numpy {numpy}")
for name, (eager, jitted) in seen.items():
    print(f"jax   {name:22} {eager}  jit {jitted}")
assert np.isnan(numpy)
assert [float(x) for x in seen["x * flag"]] == [0.0, 0.0], "this has changed"
assert np.isnan(seen["x * flag.astype(f32)"][0]) and seen["x * flag.astype(f32)"][1] == 0.0
assert [float(x) for x in seen["inf * flag"]] == [0.0, 0.0]
PY
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/mask.py"
