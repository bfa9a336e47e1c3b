#!/usr/bin/env bash
# An optimizer that is given a parameter twice steps it twice, and saves it under the number of its last place.
#
# Seen with torch 2.11.0. An actor and a critic that share an encoder, chained into one list of parameters, give the encoder's
# twice; torch only warns. One step then moves it twice (Adam's count goes up by 2), and in `state_dict()` the list
# `param_groups[0]["params"]` names it twice with the number of its LAST place: [2, 1, 2]. The state is under 2, and there is
# no 0. A reader that takes a parameter's place in the list for its number misses its moments, or gives it another's.
#
# Output seen:
#     torch 2.11.0: params [2, 1, 2], state of [1, 2], steps {1: 1.0, 2: 2.0}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uv
"$folder/venv/bin/uv" pip install --quiet --python "$folder/venv" torch==2.11.0 numpy
cat >"$folder/twice.py" <<'PY'
import warnings

import torch

warnings.simplefilter("ignore")
shared, own = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
optimizer = torch.optim.Adam([shared, own, shared], lr=0.1)
(shared + own).sum().backward()
optimizer.step()
saved = optimizer.state_dict()
numbers = saved["param_groups"][0]["params"]
steps = {number: float(state["step"]) for number, state in sorted(saved["state"].items())}
print(f"torch {torch.__version__.partition('+')[0]}: params {numbers}, state of {sorted(saved['state'])}, steps {steps}")
assert numbers == [2, 1, 2] and steps == {1: 1.0, 2: 2.0}
PY
"$folder/venv/bin/python" "$folder/twice.py"
