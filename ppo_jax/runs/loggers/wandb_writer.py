"""W&B as a logger: one run of W&B for one run of ours, however often that goes on.

An iteration is one row. A run that goes on gives W&B what it lacks from metrics.csv,
and never an iteration that W&B has already.
"""

import os
import secrets
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ppo_jax.runs import table
from ppo_jax.runs.loggers import wandb_files

ID = "wandb_id"  # file in a run's folder


class WandbWriter:
    """In the form of rsl_rl's LogWriter."""

    def __init__(self, log_dir: str, project_name: str, first_iteration: int) -> None:
        """Starts a run of W&B, or goes on with that of the folder."""
        import wandb

        self.folder = Path(log_dir)
        self.id = _id_of(self.folder)
        there = wandb_files.iterations(self.folder, self.id)
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", project_name),
            entity=os.environ.get("WANDB_ENTITY", os.environ.get("WANDB_USERNAME")),
            id=self.id,
            name=self.folder.name,
            dir=log_dir,
            resume="allow",
            settings=wandb.Settings(console="off", x_stats_pid=os.getppid()),
        )
        is_online = not self.run.offline
        self.there: Collection[int] = range(self.run.step) if is_online else there
        self.note = self.run.url or f"offline: wandb sync {log_dir}/wandb/*-{self.id}"
        self.row: dict[str, Any] = {}  # of the newest iteration, which is not sent yet
        self.step = 0
        self._fill(first_iteration)

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Notes a value; an iteration is sent when the next one begins."""
        if global_step != self.step:
            self._send()
        self.step = global_step
        if global_step not in self.there:
            self.row[tag] = scalar_value

    def store_config(self, env_cfg: Any, train_cfg: dict[str, Any]) -> None:
        """Sends the configuration."""
        self.run.config.update(train_cfg, allow_val_change=True)

    def save_model(self, model_path: str, it: int) -> None:
        """Sends a checkpoint as a version of the artifact "run-ID-checkpoint"."""
        import wandb

        artifact = wandb.Artifact(
            f"run-{self.id}-checkpoint", "model", metadata={"iteration": it}
        )
        path = Path(model_path)
        artifact.add_dir(str(path)) if path.is_dir() else artifact.add_file(str(path))
        self.run.log_artifact(artifact, aliases=["latest", f"iteration-{it}"])

    def save_video(self, video: Path, it: int) -> None:
        """Sends a film with the newest iteration."""
        import wandb

        self.row["video"] = wandb.Video(str(video), format="mp4")

    def stop(self) -> None:
        """Sends what is left and ends the run of W&B."""
        self._send()
        self.run.finish()

    def _send(self) -> None:
        if self.row:
            self.run.log(self.row, step=self.step, commit=True)
        self.row = {}

    def _fill(self, first: int) -> None:
        """Sends the iterations before the first that W&B lacks."""
        from ppo_jax.runs.metrics import tag_of

        kept = table.before(self.folder / table.TABLE, first)
        for row in map(kept.scalars, kept.rows):
            iteration = int(row.pop("iteration"))
            row.pop("seconds")
            for name, value in row.items():
                self.add_scalar(tag_of(name), value, iteration)


def _id_of(folder: Path) -> str:
    """Returns W&B's name of a run; it is drawn once, and kept in the run's folder."""
    path = folder / ID
    if not path.exists():
        path.write_text(secrets.token_hex(4) + "\n")
    return path.read_text().strip()
