"""Folders of runs: new ones are never shared, and the right one is found."""

import pytest

from ppo_jax.runs import checkpoint, folders
from ppo_jax.runs.config import Config


def test_two_runs_in_one_second_have_two_folders(tmp_path, monkeypatch):
    """A folder is never shared; both hold their description."""
    monkeypatch.chdir(tmp_path)
    made = {folders.new_run_folder(Config(run_name="x")) for _ in range(3)}
    assert len(made) == 3
    assert all(folders.load_config(folder) == Config(run_name="x") for folder in made)


def test_newest_run_with_a_checkpoint_is_found(tmp_path, monkeypatch):
    """Names begin with the date; a run without a checkpoint, or a file, is no run."""
    monkeypatch.chdir(tmp_path)
    parent = folders.LOG_ROOT / "Cartpole"
    for name, saved in [("2025-01-01", 1), ("2025-03-01", 2), ("2025-04-01", None)]:
        (parent / name / "params").mkdir(parents=True)
        (parent / name / folders.CONFIG_FILE).touch()
        if saved:
            checkpoint.path_of(parent / name, saved).mkdir(parents=True)
    (parent / "notes.txt").touch()
    newest = parent / "2025-03-01"
    assert folders.find_run(None, "Cartpole") == (newest, "latest")
    assert folders.find_run("best", "Cartpole") == (newest, "best")
    older = parent / "2025-01-01"
    assert folders.find_run(str(older), "") == (older, "latest")
    assert folders.find_run(f"{older}/checkpoints/", "") == (older, "latest")
    assert folders.find_run(f"{older}/checkpoints/1", "") == (older, "1")


def test_tasks_that_share_a_folder_have_their_own_newest_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = {}
    for task in ("Cartpole", "Recall"):
        config = Config(task=task, experiment_name="both", run_name=task)
        made[task] = folders.new_run_folder(config)
        checkpoint.path_of(made[task], 1).mkdir(parents=True)
    for task, folder in made.items():
        assert folders.find_run(None, "both", task) == (folder, "latest")
    with pytest.raises(ValueError, match="holds no run of Franka-Lift"):
        folders.find_run("best", "both", "Franka-Lift")
