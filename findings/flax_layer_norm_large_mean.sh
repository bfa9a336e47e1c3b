#!/usr/bin/env bash
# flax's norms blow numbers around 10,000 up a thousand times, or press them together.
#
# Seen with flax 0.12.12 and jax 0.12.0.1. The variance of LayerNorm, GroupNorm and BatchNorm is
# E[x^2] - E[x]^2 in float32 unless one says `use_fast_variance=False`. Of rows with a mean of 1e4 and a spread of 1 that
# difference keeps no digit: where it comes out negative it is clipped to 0 and the rest is divided by the square root of
# epsilon, elsewhere it is a multiple of 8 or so. At a mean of 1000 the spread is already 10 % off. Positions in millimetres,
# times and environments on a wide grid are such numbers, and 0.2 instead of 1 looks like a layer that learns slowly.
#
# Output seen:
#     jax 0.12.0.1, flax 0.12.12: the spread of 64 rows that should all be 1
#     mean      0: LayerNorm 1.00 to 1.00, GroupNorm 1.00 to 1.00, exact variance 1.00 to 1.00
#     mean    100: LayerNorm 1.00 to 1.00, GroupNorm 1.00 to 1.00, exact variance 1.00 to 1.00
#     mean   1000: LayerNorm 0.91 to 1.07, GroupNorm 0.91 to 1.07, exact variance 1.00 to 1.00
#     mean  10000: LayerNorm 0.21 to 1062.65, GroupNorm 0.21 to 1062.65, exact variance 1.00 to 1.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.12.0.1 jaxlib==0.12.0 flax==0.12.12 numpy==2.3.5
cat >"$folder/norms.py" <<'PY'
from importlib.metadata import version

import flax.linen as nn
import jax
import numpy as np

LAYERS = {
    "LayerNorm": nn.LayerNorm(),
    "GroupNorm": nn.GroupNorm(num_groups=1),
    "exact variance": nn.LayerNorm(use_fast_variance=False),
}


def spreads(layer, x):
    norm = layer.apply(layer.init(jax.random.key(0), x), x)
    spread = np.asarray(norm, np.float64).std(axis=-1)
    return float(spread.min()), float(spread.max())


print(f"jax {jax.__version__}, flax {version('flax')}: the spread of 64 rows that should all be 1")
noise, seen = np.random.default_rng(0).standard_normal((64, 256)), {}
for mean in (0, 100, 1000, 10_000):
    rows = (mean + noise).astype(np.float32)
    seen[mean] = {name: spreads(layer, rows) for name, layer in LAYERS.items()}
    print(f"mean {mean:6}:", ", ".join(f"{n} {a:.2f} to {b:.2f}" for n, (a, b) in seen[mean].items()))
for low, high in (spread for found in seen.values() for name, spread in found.items() if name == "exact variance"):
    assert 0.99 < low <= high < 1.01
assert seen[0]["LayerNorm"][0] > 0.99 and seen[0]["LayerNorm"][1] < 1.01
for name in ("LayerNorm", "GroupNorm"):
    low, high = seen[10_000][name]
    assert low < 0.5 and high > 300, "this has changed"
PY
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/norms.py"
