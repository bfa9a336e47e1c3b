"""A run that dies, in whatever way, ends as the run that nothing ever disturbed.

The processes are real, and so are the signals. A child that is to be hit waits for it
at a known place, so that nothing depends on timing.
"""

import csv
import os
import re
import shlex
import signal
import socket
import struct
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import running

from ppo_jax.cli.tasks import make_trainer
from ppo_jax.runs import checkpoint, folders, metrics, trainers

pytestmark = pytest.mark.slow

END = 20  # iterations of the undisturbed run
SETTINGS = (
    *("--task", "Cartpole", "--num_envs", "64", "num_steps_per_env=8"),
    *("num_learning_epochs=2", "num_mini_batches=2", "save_interval=5"),
    *("keep_checkpoints=2", "--seed", "7"),
)
TIMING = {"seconds", "iteration_time", "steps_per_second"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a run of END iterations that nothing disturbed."""
    home = tmp_path_factory.mktemp("undisturbed")
    train(home, *SETTINGS, f"--max_iterations={END}")
    return only_run(home)


def train(home, *argv, expected=0):
    """Runs train.py to its end; returns its stdout and stderr."""
    process = running.start(home, str(running.ROOT / "train.py"), *argv)
    code, out, err = running.finish(process)
    assert code == expected, (code, out, err)
    return out, err


def only_run(home):
    """Returns the one run in a folder: a resumed run has no folder of its own."""
    (run,) = (home / folders.LOG_ROOT / "Cartpole").iterdir()
    return run


def state_of(run):
    """Returns the newest checkpoint of a run: everything, as arrays."""
    config = folders.load_config(run)
    restored = checkpoint.restore_run(run, trainers.abstract_run(make_trainer(config)))
    assert (restored.iteration, restored.skipped) == (END, [])

    def plain(x):
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    return jax.tree.map(plain, restored.state)


def rows_of(run):
    """Returns the header of metrics.csv and its rows, without what a clock says."""
    with (run / metrics.TABLE).open(newline="") as file:
        header, *rows = csv.reader(file)
    columns = [i for i, name in enumerate(header) if name not in TIMING]
    return header, [[row[i] for i in columns] for row in rows]


def curves_of(run):
    """Returns {tag: {iteration: value}} as TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("Perf/")]
    curves = {}
    for tag in tags:
        points = [(point.step, point.value) for point in events.Scalars(tag)]
        curves[tag] = points if not tag.endswith("/time") else len(points)
    return curves


def steps_in_records_of(run):
    """Returns the iterations in the event files, record by record."""
    from tensorboardX.proto.event_pb2 import Event

    steps = []
    for path in sorted(run.glob(f"{metrics.EVENTS}*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack_from("<Q", data)
            event, data = Event.FromString(data[12 : 12 + length]), data[16 + length :]
            if any(value.tag == "Loss/value" for value in event.summary.value):
                steps.append(event.step)
    return steps


def assert_same(run, undisturbed):
    """Asserts that a resumed run and the undisturbed one cannot be told apart."""
    ours, theirs = state_of(run), state_of(undisturbed)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert rows_of(run) == rows_of(undisturbed)
    assert [int(row[0]) for row in rows_of(run)[1]] == list(range(END))
    assert curves_of(run) == curves_of(undisturbed)
    assert steps_in_records_of(run) == list(range(END))
    assert checkpoint.iterations(run)[-2:] == checkpoint.iterations(undisturbed)[-2:]


def test_sigkill_between_checkpoints(tmp_path, undisturbed):
    """Killed in iteration 13 the run goes on from 10; nothing is missing or double.

    Nobody else may go on with it while it lives: that is one sentence and exit code 2.
    """
    process = running.start_waiting(tmp_path, "in_iteration(13)", *SETTINGS)
    run = only_run(tmp_path)
    before = sorted(str(path) for path in run.rglob("*"))
    _, err = train(tmp_path, "--resume", "--max_iterations=30", expected=2)
    assert f"{run.relative_to(tmp_path)} is held by another process, " in err
    assert f"{process.pid} on {socket.gethostname()}" in err
    assert err.count("\n") == 1
    assert sorted(str(path) for path in run.rglob("*")) == before
    process.kill()
    assert running.finish(process)[0] == -signal.SIGKILL
    assert steps_in_records_of(run) == list(range(13))  # written, and to be cut off
    out, _ = train(tmp_path, "--resume", f"--max_iterations={END}")
    assert f"Resuming {run.relative_to(tmp_path)} at iteration 10." in out
    assert_same(run, undisturbed)


def test_sigkill_in_the_middle_of_a_save(tmp_path, undisturbed):
    """Killed with half of checkpoint 10 on the disk, the run goes on from 5."""
    process = running.start_waiting(tmp_path, "in_save(10)", *SETTINGS)
    process.kill()
    assert running.finish(process)[0] == -signal.SIGKILL
    run = only_run(tmp_path)
    names = sorted(os.listdir(run / checkpoint.FOLDER))
    assert names == [".10.unfinished", "5"]
    out, _ = train(tmp_path, "--resume", f"--max_iterations={END}")
    assert f"Resuming {run.relative_to(tmp_path)} at iteration 5." in out
    assert_same(run, undisturbed)
    assert not list((run / checkpoint.FOLDER).glob(".*"))


def test_sigterm_saves_and_says_how_to_go_on(tmp_path, undisturbed):
    """SIGTERM ends the iteration, saves, exits with 143; the printed command works."""
    argv = (*SETTINGS, f"--max_iterations={END}")
    process = running.start_waiting(tmp_path, "in_iteration(13)", *argv)
    process.terminate()
    (tmp_path / "after_iteration").touch()
    code, out, err = running.finish(process)
    assert (code, err) == (143, "")
    run = only_run(tmp_path)
    assert checkpoint.iterations(run)[-1] == 13
    command = re.fullmatch(r"Stopped by SIGTERM; .*: (uv run .*)", out.splitlines()[-1])
    uv, word, script, *argv = shlex.split(command[1])
    assert (uv, word, script) == ("uv", "run", "train.py")
    out, _ = train(tmp_path, *argv)
    assert "Mean return of the last 100 episodes" in out.splitlines()[-1]
    assert_same(run, undisturbed)


def test_ctrl_c_saves(tmp_path):
    """SIGINT ends the iteration, saves and exits with 130."""
    process = running.start_waiting(tmp_path, "in_iteration(3)", *SETTINGS)
    process.send_signal(signal.SIGINT)
    (tmp_path / "after_iteration").touch()
    code, out, err = running.finish(process)
    assert (code, err) == (130, "")
    assert "SIGINT: saving; once more stops at once" in out
    assert "Stopped by SIGINT" in out.splitlines()[-1]
    assert checkpoint.iterations(only_run(tmp_path)) == [3]


def test_second_ctrl_c_stops_at_once(tmp_path):
    """A second SIGINT does not wait for a save that takes for ever."""
    place = "in_iteration(7); in_save(7)"
    process = running.start_waiting(tmp_path, place, *SETTINGS)
    process.send_signal(signal.SIGINT)
    (tmp_path / "after_iteration").touch()
    assert "waiting\n" in process.stdout  # in the save now
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    code, _, err = running.finish(process)
    assert code == 130
    assert time.monotonic() - started < 60
    assert err.count("\n") == 1
    assert "stopped at once" in err
    assert checkpoint.iterations(only_run(tmp_path)) == [5]
