"""rsl_rl's model files where torch is not; `tests/isaac/test_migration.py` has it."""

import sys
from pathlib import Path

import pytest

from ppo_jax.rsl_rl.files import load_model
from ppo_jax.runs.config import Config


def test_without_torch_a_model_file_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="need torch: uv sync --extra isaaclab"):
        load_model(Path("model_1.pt"), Config())
