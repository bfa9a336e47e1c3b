#!/usr/bin/env bash
# Gymnasium's wrapper for torch breaks at the first end of an episode, where vector environments reset in the same step.
#
# Seen with gymnasium 1.4.0 and torch 2.11.0. `NumpyToTorch` around a vector environment converts `info` as well. With
# `AutoresetMode.SAME_STEP`, the mode in which the final observation is given at all, `info["final_obs"]` is an array of
# objects, which no DLPack can carry: the first step in which an episode ends raises BufferError, after any number of good ones.
# With DISABLED the same wrapper works, and whoever resets has the final observation as the observation.
#
# Output seen:
#     gymnasium 1.4.0, torch 2.11.0
#     SAME_STEP: 2 steps, then BufferError
#     DISABLED: 10 steps
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uv
"$folder/venv/bin/uv" pip install --quiet --python "$folder/venv" torch==2.11.0 numpy gymnasium==1.4.0 array-api-compat==1.15.0 packaging
cat >"$folder/step.py" <<'PY'
import gymnasium
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import NumpyToTorch

print(f"gymnasium {gymnasium.__version__}, torch {torch.__version__.partition('+')[0]}")


def steps(mode):
    """Counts steps of episodes that are cut after three."""
    env = gymnasium.make_vec(
        "Pendulum-v1",
        num_envs=2,
        vectorization_mode="sync",
        max_episode_steps=3,
        vector_kwargs={"autoreset_mode": mode},
    )
    env = NumpyToTorch(env)
    env.reset(seed=0)
    for step in range(10):
        try:
            _, _, terminated, truncated, _ = env.step(torch.zeros(2, 1))
        except BufferError:
            return f"{step} steps, then BufferError"
        done = terminated | truncated
        if mode is AutoresetMode.DISABLED and done.any():
            env.reset(options={"reset_mask": done})
    return "10 steps"


found = {mode.name: steps(mode) for mode in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED)}
for name, line in found.items():
    print(f"{name}: {line}")
assert found == {"SAME_STEP": "2 steps, then BufferError", "DISABLED": "10 steps"}
PY
"$folder/venv/bin/python" "$folder/step.py"
