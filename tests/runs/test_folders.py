"""Folders of runs: new ones are never shared, and the right one is found."""

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
