#!/usr/bin/env bash
# orbax saves no array without elements, and the state of MuJoCo's own JAX simulator has dozens of them.
#
# Seen with orbax-checkpoint 0.12.8 and mujoco-mjx 3.3.7. `mjx.Data` of a model without contacts, tendons or sensors holds
# arrays of shape (0,), (0, 3), ...: valid, jittable, and part of what a bit-exact continuation needs. Saving a pytree with
# one of them raises; neither the array type nor an option of StandardSave changes that. Shape and type have to be kept
# elsewhere by whoever saves.
#
# Output seen:
#     orbax 0.12.8, mjx 3.3.7: 44 of 84 arrays of mjx.Data have no elements
#     jax (0, 3): Cannot save arrays with zero size: ParamInfo: [name=x,value_typestr=jax.Array]
#     mjx.Data: Cannot save arrays with zero size
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet orbax-checkpoint==0.12.8 jax==0.10.2 jaxlib==0.10.2 mujoco==3.3.7 mujoco-mjx==3.3.7
cat >"$folder/save.py" <<'PY'
import sys
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import orbax.checkpoint as ocp
from mujoco import mjx

folder = Path(sys.argv[1])
model = mujoco.MjModel.from_xml_string(
    '<mujoco><worldbody><body><joint type="hinge"/><geom size="0.1"/></body></worldbody></mujoco>'
)
data = mjx.make_data(mjx.put_model(model))
arrays = [x for x in jax.tree.leaves(data) if hasattr(x, "size")]
empty = [x for x in arrays if x.size == 0]
print(
    f"orbax {version('orbax-checkpoint')}, mjx {version('mujoco-mjx')}: {len(empty)} of {len(arrays)} arrays of "
    "mjx.Data have no elements"
)


def refusal(name, tree):
    try:
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            checkpointer.save(folder / name, args=ocp.args.StandardSave(tree))
    except ValueError as error:
        return str(error)
    raise SystemExit(f"{name} was saved: this has changed")


alone = refusal("alone", {"x": jnp.zeros((0, 3))})
print(f"jax (0, 3): {alone}")
print(f"mjx.Data: {refusal('data', dict(enumerate(arrays))).partition(':')[0]}")
assert empty and "zero size" in alone
PY
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/save.py" "$folder" 2>/dev/null
