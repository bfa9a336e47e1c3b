"""What W&B has on this disk: the iterations in a run's files, RUN/wandb/*/run-ID.wandb.

Such a file begins with seven bytes, then comes LevelDB's log: blocks of 32 KiB, in each
chunks with a checksum (4 bytes), a length (2) and a kind (1); a record is one chunk, or
several. A record is a message of W&B's protocol.

Source: LevelDB, doc/log_format.md.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

HEADER = 7  # bytes, of the file and of each chunk
BLOCK = 32768  # bytes
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def iterations(folder: Path, run_id: str) -> set[int]:
    """Returns the iterations of which W&B has curves in a run's folder."""
    files = folder.glob(f"wandb/*/run-{run_id}.wandb")
    return {int(row["_step"]) for path in files for row in history(path)}


def history(path: Path) -> Iterator[dict[str, str]]:
    """Yields the rows of a file, {key: JSON}, as far as they are whole."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore

    for data in records(path.read_bytes()):
        record = Record.FromString(data)
        if record.HasField("history"):
            row = {
                ".".join(item.nested_key) or item.key: item.value_json
                for item in record.history.item
            }
            yield {"_step": str(record.history.step.num)} | row


def records(data: bytes) -> Iterator[bytes]:
    """Yields the records of a file, up to where it is torn."""
    position, parts = HEADER, []
    while position + HEADER <= len(data):
        left = BLOCK - position % BLOCK
        if left < HEADER:  # too few for a chunk: they are zeros
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        position += HEADER
        chunk = data[position : position + length]
        if len(chunk) < length or kind not in (FULL, FIRST, MIDDLE, LAST):
            return
        position += length
        parts = [chunk] if kind in (FULL, FIRST) else [*parts, chunk]
        if kind in (FULL, LAST):
            yield b"".join(parts)
