#!/usr/bin/env bash
# flax 0.12.7 may be installed beside any newer jax, but half of it cannot be imported there.
#
# Seen with flax 0.12.7, which asks for jax >= 0.10.0 and no more, and jax 0.12.0.1: `import flax` and flax.linen work,
# `from flax import nnx` raises an AttributeError of a private module of jax. An installer that keeps an old flax and
# takes the newest jax leaves such a pair, and says that all requirements are met.
#
# Output seen:
#     flax 0.12.7 asks for jax>=0.10.0; jax 0.12.0.1 is here
#     flax.linen: imported
#     flax.nnx: AttributeError: module 'jax.experimental.hijax' has no attribute 'HiPrimitive'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet flax==0.12.7 jax==0.12.0.1 jaxlib==0.12.0
"$folder/venv/bin/pip" check --quiet
cat >"$folder/imports.py" <<'PY'
import importlib
from importlib.metadata import requires, version

(wanted,) = [line for line in requires("flax") if line.startswith("jax>")]
print(f"flax {version('flax')} asks for {wanted}; jax {version('jax')} is here")
said = {}
for name in ("flax.linen", "flax.nnx"):
    try:
        importlib.import_module(name)
        said[name] = "imported"
    except Exception as error:
        said[name] = f"{type(error).__name__}: {error}"
    print(f"{name}: {said[name]}")
assert said["flax.linen"] == "imported" and said["flax.nnx"].startswith("AttributeError"), "this has changed"
PY
"$folder/venv/bin/python" "$folder/imports.py"
