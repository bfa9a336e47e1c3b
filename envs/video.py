"""Pictures in a row, as a file."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Writes pictures as an .mp4 (H.264), a .gif or a .webp (both endless).

    Args:
      path: file to write; its suffix picks the format.
      frames: uint8 [H, W, 3] each, all of one size; may be a generator.
      fps: pictures per second. A .gif counts in hundredths of a second.

    Raises:
      ValueError: another suffix, or no frames.
    """
    from imageio.v2 import get_writer

    suffix = Path(path).suffix.lower()
    if suffix == ".webp":
        _write_webp(path, frames, fps)
        return
    if suffix == ".mp4":
        # Blocks of 2: the default of 16 would resize a 480 x 360 picture.
        options = {"fps": fps, "macro_block_size": 2, "quality": 8}
        options |= {"ffmpeg_log_level": "quiet"}  # an error is raised, in our words
        options |= {"output_params": ["-preset", "veryfast"]}
    elif suffix == ".gif":
        options = {"duration": 1000 / fps, "loop": 0}
    else:
        raise ValueError(
            f"cannot write a video to '{path}': name the file .mp4 or .gif"
        )
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"cannot write a video to '{path}': there are no frames")
    writer: Any = get_writer(path, **options)
    with writer:
        for frame in itertools.chain([first], frames):
            writer.append_data(frame)


def _write_webp(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Writes a small film that needs no process of its own."""
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    if not images:
        raise ValueError(f"cannot write a video to '{path}': there are no frames")
    first, *others = images
    how: Any = {"duration": round(1000 / fps), "loop": 0, "quality": 70, "method": 0}
    first.save(path, save_all=True, append_images=others, **how)
