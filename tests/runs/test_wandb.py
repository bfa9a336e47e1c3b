"""W&B, offline with the real package: each iteration once, whatever was killed.

What it has is read from its own files, by a reader that is tried on torn ones.
"""

import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import running

from ppo_jax.envs.video import write_video
from ppo_jax.runs import checkpoint, folders, metrics
from ppo_jax.runs.loggers import beside, wandb_files

pytest.importorskip("wandb", reason="needs the extra wandb")
from wandb.proto.wandb_internal_pb2 import Record

SETTINGS = (
    *("--num_envs=64", "num_steps_per_env=8", "num_learning_epochs=2"),
    *("num_mini_batches=2", "save_interval=5", "--seed=7", "--logger=wandb"),
)


@pytest.fixture(autouse=True)
def offline(monkeypatch, patience):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")


def pieces(run):
    """The files that W&B has of a run, in the order in which they began."""
    name = (run / "wandb_id").read_text().strip()
    return sorted(run.glob(f"wandb/offline-run-*/run-{name}.wandb"))


def history(run):
    """Every row in all files of a run, as W&B has it: [(iteration, {tag: value})]."""
    rows = [row for path in pieces(run) for row in wandb_files.history(path)]
    return [
        (int(row.pop("_step")), {name: json.loads(x) for name, x in row.items()})
        for row in rows
    ]


def of_kind(run, kind):
    """Every message of a kind in the files of a run."""
    data = [x for path in pieces(run) for x in wandb_files.records(path.read_bytes())]
    found = [Record.FromString(x) for x in data]
    return [getattr(x, kind) for x in found if x.HasField(kind)]


def assert_has_all(run, iterations):
    """Each iteration is there once, with the numbers of metrics.csv."""
    rows = sorted(history(run), key=lambda row: row[0])
    assert [iteration for iteration, _ in rows] == list(range(iterations))
    table = metrics.read_table(run)
    assert len(table["iteration"]) == iterations
    for name in ("value_loss", "entropy", "learning_rate", "episode_return"):
        values = [row.get(metrics.tag_of(name), np.nan) for _, row in rows]
        np.testing.assert_array_equal(values, table[name])


# --- real runs


def train(home, *argv):
    process = running.start(home, str(running.ROOT / "train.py"), *argv)
    code, out, err = running.finish(process)
    assert code == 0, (out, err)


def only_run(home):
    (run,) = (home / folders.LOG_ROOT / "Cartpole").iterdir()
    return run


def descendants(pid):
    """Processes that a process has started, and those that they have."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(
                path.read_text().rpartition(")")[2].split()[1]
            )
        except OSError:
            continue
    found = [child for child, parent in parents.items() if parent == pid]
    return found + [x for child in found for x in descendants(child)]


@pytest.mark.slow
@pytest.mark.parametrize("victims", ["training", "all"])
def test_a_run_that_is_killed_and_resumed_is_one_run(tmp_path, victims):
    """Killed in iteration 13, it goes on from 10; W&B's own process may die as well."""
    process = running.start_waiting(tmp_path, "in_iteration(13)", *SETTINGS)
    run, loggers = only_run(tmp_path), descendants(process.pid)
    assert len(loggers) >= 1
    process.send_signal(signal.SIGKILL)
    for pid in loggers if victims == "all" else ():
        with suppress(ProcessLookupError):  # some were to end by themselves
            os.kill(pid, signal.SIGKILL)
    running.finish(process)
    assert checkpoint.iterations(run) == [5, 10]
    train(tmp_path, "--resume", "--max_iterations=20")
    assert_has_all(run, 20)
    assert len({x.run_id for x in of_kind(run, "run")}) == 1
    if victims == "training":
        first, second = [list(wandb_files.history(path)) for path in pieces(run)]
        assert len(first) == 13
        assert len(second) == 7


# --- the logger alone


def scalars(iteration):
    loss = float(np.float32(1 / (iteration + 1)))
    return {
        "value_loss": loss,
        "entropy": 1.0,
        "learning_rate": 0.1,
        "episode_return": iteration,
    }


def go_on(run, first, end, config=()):
    """Writes iterations as a run does that goes on at one of them."""
    notes = []
    writer = metrics.open_writer(run, "csv", first)
    values = {"task": "Cartpole", "wandb_project": "arms", **dict(config)}
    logger = beside.start_logger("wandb", run, first, values, notes.append)
    for iteration in range(first, end):
        writer.write(iteration, scalars(iteration), 0.1 * iteration)
        logger.write(iteration, metrics.tagged(scalars(iteration)))
    writer.close()
    return logger, notes


@pytest.mark.slow
def test_it_gets_what_it_lacks_and_never_the_same_again(tmp_path):
    """A run begun without it, gone on with twice, and a file that lost its end."""
    run = tmp_path / "a_run"
    writer = metrics.open_writer(run, "csv")
    for iteration in range(4):
        writer.write(iteration, scalars(iteration), 0.1 * iteration)
    writer.close()
    logger, notes = go_on(run, 4, 10)
    logger.close()
    assert_has_all(run, 10)
    (note,) = notes
    assert note.startswith(f"wandb: offline: wandb sync {run}/wandb/*-")
    logger, _ = go_on(run, 7, 12)  # from a checkpoint at 7: 7, 8 and 9 are there
    logger.close()
    assert_has_all(run, 12)
    last = pieces(run)[-1]
    assert [int(row["_step"]) for row in wandb_files.history(last)] == [10, 11]
    first = pieces(run)[0]
    data = first.read_bytes()
    while len(list(wandb_files.history(first))) > 3:
        data = data[:-40]
        first.write_bytes(data)
    logger, _ = go_on(run, 12, 13)
    logger.close()
    assert_has_all(run, 13)


@pytest.mark.slow
def test_configuration_checkpoints_and_films_are_there(tmp_path):
    run = tmp_path / "a_run"
    logger, _ = go_on(run, 0, 2, {"seed": 7, "actor": {"hidden_dims": (64, 32)}})
    saved = run / "checkpoints" / "2"
    saved.mkdir(parents=True)
    (saved / "meta.json").write_text("{}")
    logger.save_model(saved, 1)
    (run / "videos").mkdir()
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    write_video(run / "videos" / "play.mp4", frames, fps=10)
    logger.close()
    config = {
        x.key or x.nested_key[0]: json.loads(x.value_json)
        for record in (
            *of_kind(run, "config"),
            *(y.config for y in of_kind(run, "run")),
        )
        for x in record.update
    }
    assert (config["seed"], config["actor"]) == (7, {"hidden_dims": [64, 32]})
    (artifact,) = of_kind(run, "artifact") or [
        x.log_artifact.artifact
        for x in of_kind(run, "request")
        if x.HasField("log_artifact")
    ]
    assert artifact.type == "model"
    assert set(artifact.aliases) == {"latest", "iteration-1"}
    assert {x.path for x in artifact.manifest.contents} == {"meta.json"}
    (about,) = {x.project for x in of_kind(run, "run")}
    assert about == "arms"
    step, row = history(run)[-1]
    assert (step, row["video._type"]) == (1, "video-file")
    assert_has_all(run, 2)


def test_a_record_over_many_blocks_and_a_torn_one(tmp_path):
    """LevelDB's format by hand: blocks of 32 KiB, chunks full, first, middle, last."""

    def chunk(kind, data):
        return bytes(4) + len(data).to_bytes(2, "little") + bytes([kind]) + data

    room = 32768 - 7 - 7  # behind the file's header and the chunk's
    small = chunk(1, b"small")
    rest = room - len(small)
    long = b"x" * rest + b"y" * (32768 - 7) + b"z" * 10
    data = bytes(7) + small + chunk(2, long[:rest]) + chunk(3, long[rest:-10])
    whole = data + chunk(4, long[-10:]) + chunk(1, b"end")
    assert list(wandb_files.records(whole)) == [b"small", long, b"end"]
    assert list(wandb_files.records(whole[:-1])) == [b"small", long]
    assert list(wandb_files.records(data)) == [b"small"]
    tail = 32768 - 5  # fewer than a chunk's header are left in the block: zeros
    padded = bytes(7) + chunk(1, b"a" * (tail - 14)) + bytes(5) + chunk(1, b"b")
    assert list(wandb_files.records(padded)) == [b"a" * (tail - 14), b"b"]
    assert list(wandb_files.records(b"")) == []
