"""report.html tells what the run's own files tell, and needs nothing else."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser

import pytest
import running
from PIL import Image

from ppo_jax.cli import filming, report, train
from ppo_jax.runs import folders, metrics, recorded
from ppo_jax.runs import report as run_report
from ppo_jax.runs.charts import Series, line_chart, thinned, ticks
from ppo_jax.runs.config import Config
from ppo_jax.runs.config_fields import override

VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Tables, tiles and addresses of a page; fails on a tag that is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.rows, self.texts = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.addresses += [v for k, v in attributes if k in ("src", "href") and v]
        if tag == "tr":
            self.rows.append([])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.addresses += [v for k, v in attributes if k in ("src", "href") and v]

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.rows[-1].append(data)
        self.texts.append(data.strip())


def page_of(folder):
    text = (folder / run_report.REPORT).read_text()
    written = re.sub(r"base64,[\w+/=]*", "", text).replace("</", "")
    assert not re.search(r"https?:|//[a-z]|@import|url\(", written)
    page = Reader(text)
    assert all(address.startswith("data:") for address in page.addresses)
    return page


@pytest.fixture
def run(tmp_path):
    """A copy of the run of two iterations."""
    return shutil.copytree(running.tiny_run(), tmp_path / "run")


def test_training_leaves_a_report_with_the_runs_own_numbers(run):
    page, table = page_of(run), metrics.read_table(run)
    tiles = dict(zip(page.texts[1:], page.texts, strict=False))
    assert tiles["environment steps"] == str(2 * 8 * 4)
    assert tiles["mean return of the last 100 episodes"] == "-"  # none has ended
    for name in ("kl", "learning_rate", "value_loss"):
        assert f"{table[name][-1]:.4g}" in page.texts
    assert "Cartpole" in page.texts and "run" not in page.addresses
    assert f"{running.tiny_run().name}, seed 42, 2 iterations" in page.texts


def test_a_report_lists_what_differs_from_the_tasks_default(run):
    """All that TINY sets, with the task's value, and nothing else."""
    rows = {row[0]: row[1:] for row in page_of(run).rows}
    assert rows["num_envs"] == ["8", "1024"]
    assert rows["actor.hidden_dims"] == ["[8]", "[32, 32]"]
    assert rows["algorithm.num_mini_batches"][0] == "2"
    assert not {"seed", "algorithm.gamma", "task"} & rows.keys()
    assert rows["jax"] == [folders.versions()["jax"]]
    assert rows["machine"] == [folders.machine()]


@pytest.mark.slow
def test_a_resumed_run_has_one_curve_and_both_starts(run):
    """Times and curves are those of both processes; where it went on is said."""
    argv = ("--resume", f"--checkpoint={run}", "--max_iterations=40")
    before = recorded.read_run(run)
    assert running.call(train, *argv) == 0
    page, after = page_of(run), recorded.read_run(run)
    assert after.iterations == list(range(1, 41))
    assert "Resumed at iteration 2." in page.texts
    tiles = dict(zip(page.texts[1:], page.texts, strict=False))
    shown = tiles["mean return of the last 100 episodes"]
    assert float(shown) == pytest.approx(after.curves["episode_return"][-1], rel=1e-3)
    noted = folders.sessions(after.manifest)
    assert [(x["from"], x["to"]) for x in noted] == [(0, 2), (2, 40)]
    spent = {x.name: x.seconds for x in run_report.time_spent(after)}
    assert spent["starting and compiling"] == pytest.approx(
        sum(x["starting_seconds"] for x in noted)
    )
    loop = [s for name, s in spent.items() if name != "starting and compiling"]
    assert sum(loop) == pytest.approx(after.curves["seconds"][-1], abs=2e-3)
    assert after.curves["seconds"][-1] > before.curves["seconds"][-1]


def test_a_killed_run_has_a_report_by_its_verb(run, capsys):
    """Without a checkpoint, a description, or an end of its last row."""
    shutil.rmtree(run / "checkpoints")
    (run / folders.MANIFEST).unlink()
    (run / run_report.REPORT).unlink()
    with (run / metrics.TABLE).open("a") as file:
        file.write("2,0.5")
    assert running.call(report, str(run)) == 0
    assert capsys.readouterr().out == f"Report: {run / run_report.REPORT}\n"
    texts = page_of(run).texts
    assert "run.json cannot be read." in texts
    assert "How long starting and compiling took is not known." in texts


def test_a_run_in_a_simulator_says_where_its_time_went(run):
    """Of the host driver: 1 of 4 s simulating, 2 collecting, 1 learning."""
    rows = ["iteration,seconds,iteration_time,collection_time,learning_time"]
    rows[0] += ",log/Perf/simulation_time"
    rows += ["0,2.5,2,1.5,0.5,0.5", "1,5.0,2,1.5,0.5,0.5"]
    (run / metrics.TABLE).write_text("\n".join([*rows, ""]))
    config = override(folders.load_config(run), {"task": "Isaac-Nowhere"})
    (run / folders.CONFIG_FILE).write_text(
        (run / folders.CONFIG_FILE).read_text().replace("Cartpole", config.task)
    )
    report.write(run)
    shares = run_report.time_spent(recorded.read_run(run))
    spent = {x.name: x.seconds for x in shares if x.name != "starting and compiling"}
    assert spent == {
        "simulating": 1.0,
        "collecting": 2.0,
        "learning": 1.0,
        "saving, logging, showing": 1.0,
    }
    assert "What the task itself asks for is not known here." in page_of(run).texts


def test_names_cannot_break_the_page(run):
    """What a task reports is any text."""
    path = run / metrics.TABLE
    evil = "log/<script>alert(1)</script>"
    path.write_text(path.read_text().replace("log/Metrics/success_rate", evil))
    report.write(run)
    page = page_of(run)
    assert "Episode/<script>alert(1)</script>".replace("Episode/", "") in "".join(
        page.texts
    )
    assert "<script" not in (run / run_report.REPORT).read_text()


@pytest.mark.slow
def test_a_report_that_cannot_be_written_ends_no_training(run, capsys):
    (run / run_report.REPORT).unlink()
    (run / run_report.REPORT).mkdir()
    argv = ("--resume", f"--checkpoint={run}", "--max_iterations=3")
    assert running.call(train, *argv) == 0
    err = capsys.readouterr().err
    assert err.startswith("train.py: the report could not be made, the run is complete")


def test_a_clip_is_made_where_it_is_asked_for(run, capsys):
    """Small, and of the whole episode: 15 pictures a second of 60 steps."""
    assert "No film: ppo-jax report --clip makes one." in page_of(run).texts
    assert running.call(report, str(run), "--clip") == 0
    clip = run / "videos" / "clip.webp"
    with Image.open(clip) as film:
        assert film.size == filming.CLIP_SIZE
        assert film.n_frames > 1
    (address,) = page_of(run).addresses
    encoded = base64.b64encode(clip.read_bytes()).decode()
    assert address == f"data:image/webp;base64,{encoded}"


@pytest.mark.parametrize(
    ("task", "starting", "training", "due"),
    [
        ("Cartpole", 4.0, 6.0, True),
        ("Cartpole", 9.0, 6.0, False),  # more than 2 s
        ("Cartpole", 20.0, 600.0, True),  # less than 12 s
        ("Cartpole", 1.0, 1.0, False),  # a moment
        ("torch:nowhere:make", 1.0, 100.0, False),
    ],
)
def test_a_clip_that_nobody_asked_for_is_quick(task, starting, training, due):
    assert filming.is_clip_due(Config(task=task), starting, training) == due


@pytest.mark.slow
def test_a_run_of_a_few_seconds_gets_a_clip(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(filming, "is_clip_due", lambda *_: True)
    argv = (*running.TINY, "--max_iterations=2", "--logger=none")
    assert running.call(train, *argv) == 0
    (folder,) = (tmp_path / folders.LOG_ROOT / "Cartpole").iterdir()
    assert (folder / "videos" / "clip.webp").is_file()
    assert page_of(folder).addresses[0].startswith("data:image/webp")


@pytest.mark.parametrize("text", ["3", '[{"from": 1}]', '["x"]', "null"])
def test_notes_that_are_none_are_left_out(run, text):
    manifest = json.loads((run / folders.MANIFEST).read_text())
    manifest["sessions"] = json.loads(text)
    (run / folders.MANIFEST).write_text(json.dumps(manifest))
    report.write(run)
    assert "How long starting and compiling took is not known." in page_of(run).texts


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "which run? give its folder"),
        (["nowhere"], "nowhere is not a run: give the folder of one"),
        (["nowhere", "--clop"], "there is no option 'clop'"),
    ],
)
def test_a_report_of_nothing_is_a_sentence(argv, message, capsys):
    assert running.call(report, *argv) == 2
    assert message in capsys.readouterr().err


def test_differences_are_those_of_values():
    ours = override(Config(), {"gamma": 0.5, "actor.hidden_dims": [3]})
    assert run_report.differences(ours, Config()) == [
        ("actor.hidden_dims", "[3]", "[64, 64]"),
        ("algorithm.gamma", "0.5", "0.99"),
    ]
    assert run_report.differences(Config(), Config()) == []


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.5, 1.0]),
        (0.0, 4.0, [0, 1, 2, 3, 4]),
        (-2.3, 4.96, [-2, 0, 2, 4]),
        (1.0, 150.0, [50, 100, 150]),
    ],
)
def test_ticks_are_round_and_within(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_a_thinned_curve_keeps_spikes_and_ends():
    curve = [(float(x), 0.0) for x in range(100_000)]
    curve[777] = (777.0, 5.0)
    curve[55_555] = (55_555.0, -5.0)
    kept = thinned(curve)
    assert len(kept) < 1000
    assert {curve[777], curve[55_555], curve[-1]} <= set(kept)
    assert kept == sorted(kept)


def test_a_chart_of_nothing_and_of_a_constant():
    """NaN leaves gaps; a log axis leaves out what is not above 0."""
    nan = float("nan")
    assert "no value yet" in line_chart([Series("", [1, 2], [nan, nan])], "", "x")
    assert "no value yet" in line_chart([Series("", [1], [0.0])], "", "x", is_log=True)
    flat = line_chart([Series("", [1, 2, 3, 4], [2.0, nan, 2.0, 2.0])], "", "x")
    (drawn,) = re.findall(r'class="line c0" d="([^"]*)"', flat)
    assert drawn.count("M") == 2
    assert "nan" not in flat.lower()
