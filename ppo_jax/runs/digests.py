"""Digests of a folder's files: what was altered or lost on a disk is noticed."""

import hashlib
from pathlib import Path

SUMS = "SHA256SUMS"


class Damaged(Exception):
    """A folder's files are not what was written; the message says which."""


def write(folder: Path) -> None:
    """Writes SHA256SUMS of all files in a folder, as `sha256sum --check` reads it."""
    sums = [f"{digest}  {name}\n" for name, digest in _digests(folder).items()]
    (folder / SUMS).write_text("".join(sums))


def verify(folder: Path, *required: str) -> None:
    """Raises Damaged unless all files are as they were when `write` saw them.

    Args:
      folder: that `write` was given.
      *required: files that must be there, whatever the sums list.
    """
    try:
        lines = (folder / SUMS).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        raise Damaged(f"{SUMS} cannot be read") from None
    sums = dict(line.split("  ", 1)[::-1] for line in lines if "  " in line)
    found = _digests(folder)
    for name in sorted(sums.keys() | found.keys() | set(required)):
        if name not in found:
            raise Damaged(f"{name} is missing")
        if sums.get(name) != found[name]:
            raise Damaged(f"{name} was altered")


def _digests(folder: Path) -> dict[str, str]:
    """Returns {name: SHA-256} of a folder's files, not of the sums themselves.

    Hidden files are not ours: file managers leave them behind.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): _digest(file)
        for file in files
        if file.name != SUMS and not file.name.startswith(".")
    }


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
