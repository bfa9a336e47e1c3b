"""The notebooks run, show what is committed, and need the public API alone."""

import ast
import importlib
import os
import re
from importlib.util import find_spec
from pathlib import Path

import careless
import nbformat
import pytest

from notebooks.execute import clean, execute

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_SIZE = 300_000  # bytes of one notebook
# Curves that are drawn, and that no cell asserts anything about, are shorter here; what
# asserts how well something learns has fewer environments, and still learns it.
SMALLER = {
    "2_swap_the_parts": {"env, 16, 100)": "env, 16, 5)", "range(100)": "range(5)"},
    "3_sweep_by_vmap": {"num_envs=128": "num_envs=16"},
    "4_isaac_lab": {"num_envs=256": "num_envs=64", "range(70)": "range(50)"},
}

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    notebook = nbformat.read(path, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def trees(path):
    for cell in code_cells(path):
        lines = [x for x in cell.source.splitlines() if not x.startswith("%")]
        yield ast.parse("\n".join(lines))


def pictures(cells):
    outputs = [output for cell in cells for output in cell.outputs]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.slow
@each
def test_a_notebook_runs(path, monkeypatch):
    """In a kernel of its own; the laws that it states are asserted in its cells."""
    # programs that take longer to compile than to run
    monkeypatch.setenv("XLA_FLAGS", careless.FLAGS)
    if path.stem == "4_isaac_lab":
        if find_spec("isaaclab") is None:
            pytest.skip("needs Isaac Lab 3.0: uv sync --extra isaaclab, Python 3.12")
        assets = ROOT / "tests" / "data" / "isaac_assets"
        monkeypatch.setenv("ISAACSIM_ASSET_ROOT", str(assets))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ran = execute(path, SMALLER.get(path.stem))
    cells = [cell for cell in ran.cells if cell.cell_type == "code"]
    assert pictures(cells) == pictures(code_cells(path))


@each
def test_outputs_are_committed_small_and_of_no_machine(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert pictures(cells) > 0
    assert path.stat().st_size < MAX_SIZE
    text = path.read_text()
    shown = re.sub(r'"image/png": "[^"]*"', "", text)
    assert not re.search(r"(?<![\w.:/])/(home|root|tmp|usr|work|opt|Users)\b", shown)
    assert not re.search(r"\d\d:\d\d:\d\d", shown)
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert "error" not in kinds
    assert nbformat.writes(clean(nbformat.reads(text, 4))).strip() == text.strip()


@each
def test_only_public_names_are_imported(path):
    """What a notebook imports of ours, the package lists in `__all__`."""
    modules = {"ppo_jax", "ppo_jax.envs", "ppo_jax.configs", "ppo_jax.envs.isaac_lab"}
    nodes = [node for tree in trees(path) for node in ast.walk(tree)]
    for node in nodes:
        if isinstance(node, ast.Import):
            ours = {alias.name.partition(".")[0] for alias in node.names} & modules
            assert not ours
        if isinstance(node, ast.ImportFrom):
            if node.module.partition(".")[0] not in modules:
                continue
            assert node.module in modules
            module = importlib.import_module(node.module)
            names = {alias.name for alias in node.names}
            public = getattr(module, "__all__", vars(module))
            assert names <= set(public)
            assert not [name for name in names if name.startswith("_")]


@each
def test_a_notebook_opens_with_what_its_reader_will_be_able_to_do(path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown"
    assert "After this notebook you can" in first.source
    assert os.path.basename(path)[0].isdigit()
