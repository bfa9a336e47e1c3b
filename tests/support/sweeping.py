"""How tests sweep: quickly, in this process or in others that may be killed."""

import signal

import numpy as np
import pyarrow.parquet as pq
import running

from ppo_jax.cli import sweep as script


def table_of(folder):
    """Returns the columns of a sweep's table as arrays."""
    table = pq.read_table(folder / "table.parquet")
    return {name: table[name].to_numpy() for name in table.column_names}


def assert_same_table(actual, wanted, atol=1e-5):
    assert actual.keys() == wanted.keys()
    for name, column in wanted.items():
        if column.dtype == object:
            assert list(actual[name]) == list(column)
        else:
            np.testing.assert_allclose(actual[name], column, 1e-4, atol, err_msg=name)


def sweep_process(home, *argv, **environment):
    """Runs sweep.py as a real process to its end; returns its stdout."""
    path = str(running.ROOT / "sweep.py")
    process = running.start(home, path, *argv, **environment)
    code, out, err = running.finish(process)
    assert code == 0, (code, out, err)
    return out


def waiting(place, home, *argv):
    """Starts a real sweep.py that stops for ever when a chunk is half written."""
    code = running.WAIT_IN_CHUNK.replace("PLACE", place)
    return running.start(home, *argv, code=code)


def kill_at(place, home, *argv):
    """Runs sweep.py until a chunk is half written and kills it; returns its stdout."""
    process = waiting(place, home, *argv)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "waiting\n":
            break
    process.kill()
    code, _, err = running.finish(process)
    assert code == -signal.SIGKILL, (lines, err)
    (folder,) = (home / script.SWEEPS).iterdir()
    assert not (folder / "chunks" / place).exists()
    assert (folder / "chunks" / f".{place}.unfinished").exists()
    return "".join(lines)
