"""What mjlab's own guard against NaN has written, played back by MuJoCo alone."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

METADATA = "_metadata"
SHOWN = 6  # states that are described, the last ones


def is_one(path: Path) -> bool:
    """Returns whether a file is a dump of mjlab's."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return METADATA in file.files
    except Exception:  # whoever reads it says what is wrong
        return False


def describe(path: Path) -> Iterator[str]:
    """Yields lines on the states before each physics step, of each environment.

    They were taken before the steps: the last one led to what is not finite, unless it
    is that itself.
    """
    about, names, states = _read(path)
    dumped = about["dumped_env_ids"]
    yield (
        f"{path}: mjlab, environments {dumped} of {about['num_envs_total']}, "
        f"{len(names)} physics steps up to {about['detection_step']}"
    )
    model, data = _model(path, about)
    for index, env_id in enumerate(dumped):
        yield ""
        yield f"environment {env_id}"
        yield f"{'step':>8} {'largest |qpos|':>16} {'largest |qvel|':>16}"
        for name, rows in list(zip(names, states, strict=True))[-SHOWN:]:
            _put(model, data, rows[index], about)
            step = int(name.rpartition("_")[2])
            qpos, qvel = np.abs(data.qpos).max(), np.abs(data.qvel).max()
            yield f"{step:>8} {qpos:>16.4g} {qvel:>16.4g}"


def pictures(path: Path) -> Iterator[Any]:
    """Yields pictures of the first environment, [height, width, 3] uint8."""
    mujoco = _mujoco()
    about, _, states = _read(path)
    model, data = _model(path, about)
    with mujoco.Renderer(model, 480, 640) as renderer:
        for rows in states:
            if np.isfinite(rows[0]).all():
                _put(model, data, rows[0], about)
                mujoco.mj_forward(model, data)
                renderer.update_scene(data)
                yield renderer.render()


def _read(path: Path) -> tuple[dict[str, Any], list[str], list[np.ndarray]]:
    """Returns what the file says of itself, and its states [E, ...] by their names.

    mjlab pickles the former: as with its own viewer, open only what you trust.
    """
    with np.load(path, allow_pickle=True) as file:
        names = sorted(name for name in file.files if name.startswith("states_step_"))
        return file[METADATA].item(), names, [file[name] for name in names]


def _model(path: Path, about: dict[str, Any]) -> tuple[Any, Any]:
    mujoco = _mujoco()
    model = mujoco.MjModel.from_binary_path(str(path.parent / about["model_file"]))
    return model, mujoco.MjData(model)


def _put(model: Any, data: Any, state: np.ndarray, about: dict[str, Any]) -> None:
    mujoco = _mujoco()
    mujoco.mj_setState(model, data, state, about["state_spec"])


def _mujoco() -> Any:
    os.environ.setdefault("MUJOCO_GL", "egl")  # as mjlab does; no display is needed
    import mujoco

    return mujoco
