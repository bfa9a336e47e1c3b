"""What a resumed run says and keeps: configuration, versions, curves, decoration."""

import csv
import json
import shutil

import pytest
import running

from ppo_jax.cli import train
from ppo_jax.runs import checkpoint, folders, metrics


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A copy of the tiny run, which has done two iterations."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(running.tiny_run(), tmp_path / "run")


def resume(run, *argv):
    return running.call(train, "--resume", "--checkpoint", str(run), *argv)


@pytest.mark.slow
def test_a_resume_that_breaks_leaves_the_configuration_as_it_was(run, capsys):
    """A learning rate of 1e20 ends in one sentence, and agent.yaml is untouched."""
    before = (run / folders.CONFIG_FILE).read_bytes()
    argv = ("learning_rate=1e20", "schedule=fixed", "--max_iterations=9")
    assert resume(run, *argv) == 1
    assert "became NaN or infinite" in capsys.readouterr().err
    assert (run / folders.CONFIG_FILE).read_bytes() == before
    assert checkpoint.iterations(run) == [1, 2]


@pytest.mark.slow
def test_a_resume_says_and_records_what_it_goes_on_with(run, capsys):
    """Another jax: one line; nothing that only decorates ends a run.

    The configuration and the versions are those of the run from now on.
    """
    path = run / folders.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["metadata"]["jax"] = "0.1.2"
    path.write_text(json.dumps(manifest))
    (run / "learning_curve.png").unlink()
    (run / "learning_curve.png").mkdir()
    (run / "videos").write_text("not a folder")
    assert resume(run, "gamma=0.9", "--max_iterations=3", "--video") == 0
    out, err = capsys.readouterr()
    here = folders.versions()["jax"]
    assert (
        out.count(f"was written with jax 0.1.2, here {here}: it goes on, but not") == 1
    )
    assert "the learning curve could not be made, the run is complete" in err
    assert "the video could not be made, the run is complete" in err
    assert err.count("\n") == 2
    assert "learning curve" not in out
    assert folders.load_config(run).algorithm.gamma == 0.9
    manifest = json.loads(path.read_text())
    assert manifest["metadata"]["jax"] == here
    assert manifest["earlier_versions"][0]["jax"] == "0.1.2"
    assert folders.changed_versions(run) == ""


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"metadata": 3}'])
def test_a_description_that_cannot_be_read_is_said(run, text):
    """What wrote the run is then not known."""
    path = run / folders.MANIFEST
    path.unlink() if text is None else path.write_text(text)
    assert "run.json cannot be read" in folders.changed_versions(run)
    folders.record(run, folders.load_config(run))  # and nothing is made up
    assert path.exists() == (text is not None)


def test_a_damaged_table_ends_a_resume_at_once(run, capsys):
    """One sentence with the file, exit code 2, and nothing has changed."""
    table = run / metrics.TABLE
    table.write_text(table.read_text().replace("\n1,", "\none,"))
    assert resume(run, "--max_iterations=9") == 2
    out, err = capsys.readouterr()
    assert f"{table} is damaged: line 3 begins with 'one'" in err
    assert err.count("\n") == 1
    assert "compiling" not in out
    assert checkpoint.iterations(run) == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["schedule=fixed"], "The fixed learning rate is 0.001."),
        ([], "The adaptive learning rate is {saved:g}."),
    ],
)
def test_weights_are_trained_on_at_the_rate_that_is_said(run, capsys, argv, line):
    """A fixed schedule takes the configured rate, an adaptive one the weights' own."""
    saved = metrics.read_table(run)["learning_rate"][-1]
    assert saved != 0.001
    how = (*running.TINY, "--max_iterations=1", "--logger=none")
    assert running.call(train, *how, "--checkpoint", str(run), *argv) == 0
    assert line.format(saved=saved) in capsys.readouterr().out
    if argv == ["schedule=fixed"]:
        (new,) = (folders.LOG_ROOT / "Cartpole").iterdir()
        with (new / metrics.TABLE).open(newline="") as file:
            (row,) = csv.DictReader(file)
        assert float(row["learning_rate"]) == pytest.approx(0.001)
