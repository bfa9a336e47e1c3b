"""Loggers beside a run: told everything, and never able to stop or slow it.

Each runs in a real process of its own; the classes stand in a module as users have it.
"""

import fcntl
import json
import signal
import time

import pytest
import running

from ppo_jax.cli import train
from ppo_jax.runs import metrics
from ppo_jax.runs.config import Config
from ppo_jax.runs.loggers import beside, names

MODULE = """
import json, os, time

class Notes:
    'Writes down what it is told, in the form of rsl_rl.'

    def __init__(self, log_dir, project_name, first_iteration=0):
        self.file = open(os.path.join(log_dir, "told.jsonl"), "a", buffering=1)
        self.note_down("init", project_name, first_iteration)

    def note_down(self, *what):
        print(json.dumps(what), file=self.file)

    def add_scalar(self, tag, scalar_value, global_step):
        self.note_down("add_scalar", tag, scalar_value, global_step)

    def store_config(self, env_cfg, train_cfg):
        self.note_down("store_config", env_cfg.to_dict(), train_cfg["seed"])

    def save_model(self, model_path, it):
        self.note_down("save_model", os.path.basename(model_path), it)

    def save_video(self, video, it):
        self.note_down("save_video", video.name, it)

    def stop(self):
        self.note_down("stop")

class OnlyScalars:
    def __init__(self, log_dir):
        self.path = os.path.join(log_dir, "told.jsonl")

    def add_scalar(self, tag, scalar_value, global_step):
        print("a word of its own")
        with open(self.path, "a") as file:
            print(json.dumps(["add_scalar", tag, scalar_value, global_step]), file=file)

class FailsTwice(Notes):
    left = 2

    def add_scalar(self, tag, scalar_value, global_step):
        if global_step == 1 and tag == "b" and self.left:
            self.left -= 1
            raise ConnectionError("no network")
        super().add_scalar(tag, scalar_value, global_step)

class Raises(Notes):
    def add_scalar(self, tag, scalar_value, global_step):
        raise ConnectionError("no network")

class Sleeps(Notes):
    def add_scalar(self, tag, scalar_value, global_step):
        time.sleep(1e6)

class SleepsAtOnce(Notes):
    def __init__(self, log_dir):
        time.sleep(1e6)

class CannotStart(Notes):
    def __init__(self, log_dir):
        raise PermissionError("no key")

class FailsToStop(Notes):
    def stop(self):
        raise ConnectionError("gone")

class SleepsAtTheEnd(Notes):
    def stop(self):
        time.sleep(1e6)

class Dies(Notes):
    def add_scalar(self, tag, scalar_value, global_step):
        os._exit(3)
"""
REST = "metrics.csv has all curves"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run's folder; the classes can be imported, and nothing takes long."""
    home = tmp_path / "modules"
    home.mkdir()
    (home / "my_loggers.py").write_text(MODULE)
    monkeypatch.syspath_prepend(home)
    monkeypatch.setattr(beside, "PAUSES", (0.01, 0.02))
    run = tmp_path / "run"
    run.mkdir()
    return run


def start(folder, name, notes, first=0):
    config = {"task": "Cartpole", "seed": 7, "wandb_project": "arms"}
    return beside.start_logger(
        f"my_loggers:{name}", folder, first, config, notes.append
    )


def told(folder):
    """What a logger wrote down: [[method, argument, ...], ...]."""
    lines = (folder / "told.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def scalars(folder):
    return [rest for what, *rest in told(folder) if what == "add_scalar"]


def three_iterations(logger):
    for step in range(3):
        logger.write(step, {"a": 0.5 * step, "b": 1e-9})


EVERYTHING = [
    [tag, x, step] for step in range(3) for tag, x in (("a", 0.5 * step), ("b", 1e-9))
]


def test_a_class_for_rsl_rl_is_told_everything(folder):
    (folder / "videos").mkdir()
    (folder / "videos" / "old.mp4").touch()
    notes = []
    logger = start(folder, "Notes", notes, first=4)
    for step in (4, 5):
        logger.write(step, {"Loss/value": step / 3})
    logger.save_model(folder / "checkpoints" / "6", 5)
    until(lambda: len(told(folder)) == 5)
    (folder / "videos" / "new.mp4").write_text("a film")
    logger.close()
    assert notes == []
    assert told(folder) == [
        ["init", "arms", 4],
        ["store_config", {"task": "Cartpole"}, 7],
        ["add_scalar", "Loss/value", 4 / 3, 4],
        ["add_scalar", "Loss/value", 5 / 3, 5],
        ["save_model", "6", 5],
        ["save_video", "new.mp4", 5],
        ["stop"],
    ]


def test_one_method_is_enough_and_what_it_prints_is_in_a_file(folder):
    notes = []
    logger = start(folder, "OnlyScalars", notes)
    three_iterations(logger)
    logger.save_model(folder, 2)
    logger.close()
    assert (notes, scalars(folder)) == ([], EVERYTHING)
    log = (folder / "loggers" / "OnlyScalars.log").read_text()
    assert log.count("a word of its own") == 6


def test_what_fails_is_tried_again_and_nothing_is_told_twice(folder):
    notes = []
    logger = start(folder, "FailsTwice", notes)
    three_iterations(logger)
    logger.close()
    assert scalars(folder) == EVERYTHING
    (note,) = notes
    assert note == (
        "my_loggers:FailsTwice: add_scalar failed (no network); it is tried again"
    )


@pytest.mark.parametrize(
    ("name", "sentences"),
    [
        (
            "Raises",
            ["add_scalar failed (no network)", "3 calls in a row failed; it is dr"],
        ),
        (
            "CannotStart",
            ["its start failed (no key)", "could not be started; it is dr"],
        ),
        ("FailsToStop", ["stop failed (gone)"]),
        ("Dies", [f"ended by itself (3), see LOG; {REST}"]),
        (
            "Sleeps",
            [f"did not end within 1 s and was stopped, 3 messages behind; {REST}"],
        ),
        ("SleepsAtOnce", ["did not end within 1 s and was stopped, 3 messages behind"]),
        pytest.param(
            "SleepsAtTheEnd",
            [f"did not end within 1 s and goes on alone, for 2 s at most; {REST}"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_cannot_go_well_is_a_line(folder, monkeypatch, name, sentences):
    if "Sleeps" in name:
        monkeypatch.setattr(beside, "SECONDS_TO_END", 1.0)
        monkeypatch.setattr(beside, "SECONDS_ALONE", 2.0)
    notes = []
    logger = start(folder, name, notes)
    three_iterations(logger)
    if name == "SleepsAtTheEnd":
        until(lambda: len(scalars(folder)) == 6)
    logger.close()
    if name in ("Sleeps", "SleepsAtOnce"):
        until(lambda: not runs(folder, name))  # it was killed, which is said once
    logger.write(3, {"a": 1.0})  # is nobody's business any more
    log = str(beside.log_of(folder, name))
    assert len(notes) == len(sentences), notes
    for note, sentence in zip(notes, sentences, strict=True):
        assert sentence in note.replace(log, "LOG")
    until(lambda: not runs(folder, name))


def runs(folder, name):
    """Whether a logger's process is there: it holds its log."""
    with beside.log_of(folder, name).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_who_is_silent_is_said_once_and_who_is_far_behind_is_dropped(
    folder, monkeypatch
):
    monkeypatch.setattr(beside, "SECONDS_UNTIL_SAID", 0.1)
    monkeypatch.setattr(beside, "MOST_WAITING", 20)
    notes = []
    logger = start(folder, "Sleeps", notes)
    for step in range(10):
        time.sleep(0.03)
        logger.write(step, {"a": 1.0})
    (note,) = notes
    assert "has not answered for 0 s; training goes on" in note
    for step in range(10, 40):
        logger.write(step, {"a": 1.0})
    assert f"is dropped: it was 20 behind; {REST}" in notes[1]
    logger.close()
    assert len(notes) == 2


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except FileNotFoundError:
            pass
        time.sleep(0.01)
    raise AssertionError("it did not come")


# --- names


@pytest.mark.parametrize(
    ("logger", "sentence"),
    [
        ("neptune", "give tensorboard, wandb, csv, none or package.module:Class"),
        ("csv,wanbd", r"did you mean 'wandb'"),
        ("csv,csv", "give each logger once"),
        ("none,csv", "none alone, or others without it"),
        ("", "give tensorboard"),
        ("tensorboard,", "give tensorboard"),
    ],
)
def test_a_wrong_name_is_one_sentence(logger, sentence):
    with pytest.raises(
        ValueError, match=f"logger = '{logger}' is not allowed: .*{sentence}"
    ):
        Config(logger=logger)


def test_a_logger_that_cannot_be_used_is_one_sentence(folder, monkeypatch):
    assert names.beside("tensorboard,csv") == names.beside("none") == ()
    assert names.beside("my_loggers:Notes, csv") == ("my_loggers:Notes",)
    with pytest.raises(ValueError, match="'my_loggers:Nots' cannot be loaded"):
        names.beside("my_loggers:Nots")
    with pytest.raises(
        ValueError, match=r"'json:JSONEncoder' has no add_scalar\(tag, v"
    ):
        names.beside("json:JSONEncoder")
    monkeypatch.setattr(names, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs the package wandb, which is not inst"):
        names.beside("csv,wandb")


# --- beside a real run


def rows(run):
    timing = {"seconds", "iteration_time", "steps_per_second"}
    return {x: y for x, y in metrics.read_table(run).items() if x not in timing}


@pytest.fixture
def home(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def only_run(home):
    (run,) = (home / "logs" / "ppo_jax" / "Cartpole").iterdir()
    return run


@pytest.mark.slow
def test_a_run_is_the_same_with_loggers_of_all_kinds(home, capfd, monkeypatch):
    """With one that writes, one that fails and one that hangs, and TensorBoard."""
    monkeypatch.setattr(beside, "SECONDS_TO_END", 5.0)
    argv = (*running.TINY, "--seed=3", "--max_iterations=6", "save_interval=3")
    loggers = "tensorboard,my_loggers:Notes,my_loggers:Raises,my_loggers:Sleeps"
    assert running.call(train, *argv, f"--logger={loggers}", "upload_model=true") == 0
    out = capfd.readouterr().out
    assert "my_loggers:Raises: add_scalar failed (no network)" in out
    assert "my_loggers:Sleeps did not end within 5 s and was stopped" in out
    run = only_run(home)
    assert list(run.glob(f"{metrics.EVENTS}*"))
    seen = [x for x in told(run) if x[0] in ("add_scalar", "save_model")]
    table = metrics.read_table(run)
    for tag, name in (("Loss/value", "value_loss"), ("Loss/entropy", "entropy")):
        values = [x[2] for x in seen if x[1] == tag]
        assert values == table[name]
    assert [x[1:] for x in seen if x[0] == "save_model"] == [["3", 2], ["6", 5]]
    for path in run.parent.iterdir():
        path.rename(home / "with_loggers")
    assert running.call(train, *argv, "--logger=csv") == 0
    assert repr(rows(only_run(home))) == repr(rows(home / "with_loggers"))
    assert not list(only_run(home).glob(f"{metrics.EVENTS}*"))


@pytest.mark.slow
def test_a_killed_run_still_tells_its_logger_all(home):
    """SIGKILL takes training, not its logger, which hears the end and stops."""
    argv = (*running.TINY, "--max_iterations=100000", "--logger=my_loggers:Notes")
    path = str(home / "modules")
    code = (
        f"import sys; sys.path.append({path!r})\n"
        "from ppo_jax.cli import entry, train\n"
        "sys.argv[0] = 'train.py'; entry.run_script(train.main)"
    )
    process = running.start(home, *argv, code=code)
    until(lambda: len(told(only_run(home))) > 200)
    process.send_signal(signal.SIGKILL)
    running.finish(process)
    run = only_run(home)
    until(lambda: told(run)[-1] == ["stop"])
    steps = [x[3] for x in told(run) if x[:2] == ["add_scalar", "Loss/value"]]
    assert steps == list(range(len(steps)))
    assert len(steps) <= len(metrics.read_table(run)["value_loss"])
