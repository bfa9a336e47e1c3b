"""The table of a run's curves, metrics.csv: appended to, cut on resume, read strictly.

A row is an iteration; an empty cell means that there is no value yet. A row that a
dying process wrote in part has no end of line, and does not count. Anything else that
is not as it was written is damage, and an error that names file and line.
"""

import csv
import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

TABLE = "metrics.csv"
FIRST_COLUMNS = ["iteration", "seconds"]


class Table(NamedTuple):
    """A table as it is written."""

    columns: list[str]
    rows: list[list[str]]  # [iterations][columns]

    def scalars(self, row: list[str]) -> dict[str, float]:
        """Returns {column: value} of a row, but for those without a value."""
        return {name: float(x) for name, x in zip(self.columns, row, strict=True) if x}


class TableWriter(NamedTuple):
    """A table that is open; a killed process loses no row."""

    write: Callable[[int, Mapping[str, float], float], None]  # iteration, row, seconds
    close: Callable[[], None]


def read_table(folder: Path) -> dict[str, list[float]]:
    """Returns the columns of a run's table; an empty cell is NaN.

    Raises:
      ValueError: the table is damaged.
      OSError: there is none, or it cannot be read.
    """
    columns, rows = read(folder / TABLE)
    return {
        name: [float(row[i] or "nan") for row in rows] for i, name in enumerate(columns)
    }


def read(path: Path) -> Table:
    """Returns the whole rows of a table.

    Raises:
      ValueError: the table is damaged; names the file, the line and the way on.
      OSError: there is none, or it cannot be read.
    """
    try:
        text = path.read_bytes().decode()
        whole = text[: text.rfind("\n") + 1]
        lines = list(csv.reader(io.StringIO(whole, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _damaged(path, str(error)) from None
    if not lines:
        return Table([], [])
    columns, *rows = lines
    if columns[:2] != FIRST_COLUMNS or len(set(columns)) != len(columns):
        raise _damaged(path, "line 1 is not its header")
    for line, row in enumerate(rows, 2):
        problem = _problem(columns, row, rows[line - 3] if line > 2 else None)
        if problem:
            raise _damaged(path, f"line {line} {problem}")
    return Table(columns, rows)


def check_table(folder: Path) -> None:
    """Raises ValueError if a table is damaged; that there is none is no damage."""
    if (folder / TABLE).exists():
        read(folder / TABLE)


def before(path: Path, iteration: int) -> Table:
    """Returns the rows before an iteration; none if there is no table.

    Raises:
      ValueError: the table is damaged; names the file, the line and the way on.
    """
    if iteration == 0 or not path.exists():
        return Table([], [])
    columns, rows = read(path)
    return Table(columns, [row for row in rows if int(row[0]) < iteration])


def open_table(path: Path, kept: Table) -> TableWriter:
    """Cuts a table to the rows that are kept, and opens it to append others."""
    columns = list(kept.columns)
    if columns:
        _replace(path, [columns, *kept.rows])
    else:
        path.unlink(missing_ok=True)
    file = path.open("a", newline="")

    def write(iteration: int, scalars: Mapping[str, float], seconds: float) -> None:
        nonlocal file
        row = {"iteration": iteration, "seconds": round(seconds, 3), **scalars}
        new = [name for name in row if name not in columns]
        if new:  # at first all; later what an environment reports for the first time
            columns.extend(new)
            file.close()
            _widen(path, columns)
            file = path.open("a", newline="")
        cells = [row.get(name, math.nan) for name in columns]
        csv.writer(file).writerow("" if math.isnan(x) else x for x in cells)
        file.flush()

    return TableWriter(write, lambda: file.close())


def _problem(columns: list[str], row: list[str], before: list[str] | None) -> str:
    """Returns what is wrong with a row; nothing where it is as it was written."""
    if len(row) != len(columns):
        return f"has {len(row)} cells instead of {len(columns)}"
    if not row[0].isdecimal():
        return f"begins with {row[0][:20]!r} instead of an iteration"
    if before is not None and int(row[0]) <= int(before[0]):
        return f"is iteration {row[0]} after {before[0]}"
    for name, cell in zip(columns, row, strict=True):
        try:
            float(cell or "nan")
        except ValueError:
            return f"has {cell[:20]!r} as {name}"
    return ""


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(
        f"{path} is damaged: {why}; repair it, or delete it, then the curves begin "
        "where the run goes on"
    )


def _widen(path: Path, columns: list[str]) -> None:
    """Writes the header anew and fills up the rows with empty cells."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    padded = [row + [""] * (len(columns) - len(row)) for row in rows]
    _replace(path, [columns, *padded])


def _replace(path: Path, rows: list[list[str]]) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    temporary.replace(path)
