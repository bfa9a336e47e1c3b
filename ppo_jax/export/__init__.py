"""Policies that leave: files that a robot runs without JAX.

Here belongs what writes a policy in another form and proves that it acts the same.
Model files of rsl_rl have a room of their own; nothing here knows an environment.
"""

from ppo_jax.export.onnx_file import (
    SUFFIX,
    Agreement,
    Disagrees,
    export_policy,
    require_onnx,
)
from ppo_jax.export.recording import observe

__all__ = [
    "SUFFIX",
    "Agreement",
    "Disagrees",
    "export_policy",
    "observe",
    "require_onnx",
]
