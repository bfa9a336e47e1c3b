"""A disk that fails a run: it is full, the folder is gone; said in one sentence."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ppo_jax.runs import checkpoint

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Unwritable(Exception):
    """A run cannot be written any more; the message says why, and what can be used."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Says what became of a run's folder, if what the block writes fails.

    Raises:
      Unwritable: the folder is gone, its disk is full, or nothing can be written to it.
    """
    try:
        yield
    except OSError as error:
        raise Unwritable(_sentence(folder, error)) from error


def _sentence(folder: Path, error: OSError) -> str:
    if not folder.is_dir():
        return (
            f"{folder} is gone: it was deleted or moved while the run was trained; "
            "training stopped, and what is not elsewhere is lost"
        )
    why = f"{folder} cannot be written ({error.strerror or error})"
    if error.errno in FULL:
        why = f"the disk of {folder} is full ({error.strerror})"
    return f"{why}; training stopped. {checkpoint.last_good(folder)}"
