"""Digests of a folder's files: what was altered or lost on a disk is noticed."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

SUMS = "SHA256SUMS"


class Damaged(Exception):
    """A folder's files are not what was written; the message says which."""


def write(folder: Path, names: Iterable[str] | None = None) -> None:
    """Writes SHA256SUMS, whole or not at all, as `sha256sum --check` reads it.

    Args:
      folder: of the files.
      names: the files that are meant; None: all that are in the folder.
    """
    wanted = _names(folder) if names is None else sorted(names)
    temporary = folder / f".{SUMS}"
    temporary.write_text(_text({name: _digest(folder / name) for name in wanted}))
    os.replace(temporary, folder / SUMS)


def verify(folder: Path, *required: str) -> None:
    """Raises Damaged unless all files are as they were when `write` saw them.

    Args:
      folder: that `write` was given; another file in it is damage, too.
      *required: files that must be there, whatever the sums list.
    """
    for name, what in damage(folder, required, _names(folder)).items():
        raise Damaged(f"{name} {what}")


def damage(
    folder: Path, required: Iterable[str], others: Iterable[str] = ()
) -> dict[str, str]:
    """Returns {file: what has become of it}; empty if all is as it was written.

    Args:
      folder: that `write` was given.
      required: files that must be there, whatever the sums list.
      others: files that must be among those that the sums list.
    """
    try:
        text = (folder / SUMS).read_text()
    except (OSError, UnicodeDecodeError):
        return {SUMS: "cannot be read"}
    lines = text.splitlines()
    sums = dict(line.split("  ", 1)[::-1] for line in lines if "  " in line)
    found = {}
    for name in sorted({*sums, *required, *others}):
        if not (folder / name).is_file():
            found[name] = "is missing"
        elif sums.get(name) != _digest(folder / name):
            found[name] = "was altered"
    if not found and text != _text(sums):
        return {SUMS: "was altered"}
    return found


def _names(folder: Path) -> list[str]:
    """Returns the files of a folder, but for the sums themselves.

    Hidden files are not ours: file managers leave them behind.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [
        file.relative_to(folder).as_posix()
        for file in files
        if file.name != SUMS and not file.name.startswith(".")
    ]


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _text(sums: Mapping[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items())
