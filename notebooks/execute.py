"""Runs notebooks in a fresh kernel and keeps what they show, and nothing else.

    uv run notebooks/execute.py notebooks/1_pure_functions.ipynb ...

Standard error, times and the version of Python are left out, and pictures get a
palette: a notebook stays small, and changes where its code or its results do.
"""

import base64
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 600  # s, for one cell; Isaac Lab compiles its kernels in one
NUM_COLORS = 256


def execute(path: Path, smaller: Mapping[str, str] | None = None) -> Any:
    """Returns a notebook with new outputs; the repository is its import path.

    Args:
      path: of the notebook.
      smaller: sizes in its code, each with the one to run in its place: for tests.

    Raises:
      CellExecutionError: a cell failed; has its traceback.
      ValueError: the notebook has no such size.
    """
    notebook = nbformat.read(path, as_version=4)
    for size, small in (smaller or {}).items():
        replace(notebook, size, small)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(ROOT / "notebooks")}},
    )
    search_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    client.execute(env={**os.environ, "PYTHONPATH": search_path})
    return clean(notebook)


def replace(notebook: Any, old: str, new: str) -> None:
    """Puts one piece of code in another's place, in all cells that have it."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not any(old in cell.source for cell in cells):
        raise ValueError(f"no cell has {old!r}.")
    for cell in cells:
        cell.source = cell.source.replace(old, new)


def clean(notebook: Any) -> Any:
    """Returns the notebook without what depends on the machine or the moment."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
        if cell.cell_type == "code":
            cell.outputs = [x for x in cell.outputs if x.get("name") != "stderr"]
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    output.data["image/png"] = small_png(output.data["image/png"])
    return notebook


def small_png(encoded: str) -> str:
    """Returns a base64 PNG with a palette instead of full color."""
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    if picture.mode == "P":
        return encoded
    small = io.BytesIO()
    picture.convert("RGB").quantize(NUM_COLORS).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


if __name__ == "__main__":
    for name in sys.argv[1:]:
        nbformat.write(execute(Path(name)), name)
        print(f"{name}: {Path(name).stat().st_size / 1000:.0f} kB")
