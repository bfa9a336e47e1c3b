"""A run as its folder tells it: configuration, curves, circumstances."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ppo_jax.runs import folders, table
from ppo_jax.runs.config import Config

FILMS = (".mp4", ".gif", ".webp")
VIDEOS = "videos"


class Recorded(NamedTuple):
    """What is known of a run, finished or not."""

    folder: Path
    config: Config
    curves: Mapping[str, Sequence[float]]  # {column: [iterations]}, NaN: no value
    manifest: Mapping[str, Any]  # run.json; empty if it cannot be read

    @property
    def iterations(self) -> list[int]:
        """How many iterations were done at each row of the curves."""
        return [int(x) + 1 for x in self.curves["iteration"]]

    @property
    def steps_per_iteration(self) -> int:
        """Of all environments together."""
        return self.config.num_envs * self.config.num_steps_per_env

    def last(self, name: str) -> float:
        """Returns the newest value of a curve; NaN where there is none."""
        column = self.curves.get(name, ())
        return next((x for x in reversed(column) if not math.isnan(x)), math.nan)

    def solved_at(self) -> int | None:
        """Returns after how many iterations the goal was first reached."""
        goal = self.config.solved_return
        if goal is None:
            return None
        rows = zip(self.iterations, self.curves.get("episode_return", ()), strict=False)
        return next((done for done, value in rows if value >= goal), None)


def read_run(folder: Path) -> Recorded:
    """Reads what a run's folder tells.

    Raises:
      ValueError: it is no run, it has no iteration yet, or its table is damaged.
    """
    if not (folder / folders.CONFIG_FILE).is_file():
        raise ValueError(f"{folder} is not a run: give the folder of one")
    config = folders.load_config(folder)
    if not (folder / table.TABLE).is_file():
        raise ValueError(f"{folder} has no {table.TABLE}: nothing is known of it yet")
    curves = table.read_table(folder)
    if not curves.get("iteration"):
        raise ValueError(f"{folder} has finished no iteration yet: train longer")
    return Recorded(folder, config, curves, folders.read_manifest(folder))


def newest_film(folder: Path) -> Path | None:
    """Returns the film of a run that was made last; None: there is none."""
    paths = [
        path
        for path in (folder / VIDEOS).glob("*")
        if path.suffix.lower() in FILMS and path.stat().st_size
    ]
    return max(paths, key=lambda path: path.stat().st_mtime, default=None)
