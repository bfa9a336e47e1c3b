#!/usr/bin/env bash
# jax.numpy.from_dlpack(x, copy=True) does not copy.
#
# Seen with jax 0.12.0.1, torch 2.11.0 and numpy 2.5.2 on a CPU. The array API says of copy=True that the function "must always copy"; jax returns a view
# of the tensor, and what torch writes later shows in an array that is said to be immutable. NumPy's arrays too, where their memory
# is aligned to 64 bytes; others are copied whatever the argument says, so that a test with a small array passes by chance.
# torch.from_dlpack(copy=True), the other direction, does copy. On CUDA (jax 0.11.2, an H200) the same call raises UNIMPLEMENTED.
#
# Output seen:
#     jax 0.12.0.1, torch 2.11.0
#     torch -> jax, copy=True: same memory, and 7.0 after torch wrote 7
#     numpy, aligned to 64 bytes -> jax, copy=True: same memory
#     numpy, aligned to 16 bytes -> jax, copy=True: other memory
#     jax -> torch, copy=True: other memory
#     jnp.array(tensor): other memory
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uv
"$folder/venv/bin/uv" pip install --quiet --python "$folder/venv" jax==0.12.0.1 torch==2.11.0 numpy==2.5.2
cat >"$folder/from_dlpack.py" <<'PY'
import jax
import jax.numpy as jnp
import numpy as np
import torch


def memory(array, address):
    return "same memory" if array.unsafe_buffer_pointer() == address else "other memory"


def aligned(bytes_):
    """Returns zeros whose address is a multiple of this, and of no larger power of two."""
    raw = np.zeros(4096 + 1024, np.uint8)
    start = -raw.ctypes.data % 128 + bytes_
    return raw[start : start + 4096].view(np.float32)


print(f"jax {jax.__version__}, torch {torch.__version__.partition('+')[0]}")
tensor = torch.zeros(1024)
array = jnp.from_dlpack(tensor, copy=True)
found = memory(array, tensor.data_ptr())
tensor[0] = 7
print(f"torch -> jax, copy=True: {found}, and {array[0]} after torch wrote 7")
assert found == "same memory" and array[0] == 7, "this has changed"
for bytes_, wanted in ((64, "same memory"), (16, "other memory")):
    source = aligned(bytes_)
    found = memory(jnp.from_dlpack(source, copy=True), source.ctypes.data)
    print(f"numpy, aligned to {bytes_} bytes -> jax, copy=True: {found}")
    assert found == wanted, "this has changed"
array = jnp.zeros(1024)
copy = torch.from_dlpack(array, copy=True)
print(f"jax -> torch, copy=True: {memory(array, copy.data_ptr())}")
assert copy.data_ptr() != array.unsafe_buffer_pointer(), "this has changed"
print(f"jnp.array(tensor): {memory(jnp.array(tensor), tensor.data_ptr())}")
PY
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/from_dlpack.py"
