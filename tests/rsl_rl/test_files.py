"""rsl_rl's model files where torch is not; `tests/isaac/test_migration.py` has it."""

import sys
from pathlib import Path

import pytest

from ppo_jax.config import Config
from ppo_jax.scripts.rsl_rl_files import load_model


def test_without_torch_a_model_file_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="need torch: uv sync --extra isaaclab"):
        load_model(Path("model_1.pt"), Config())
