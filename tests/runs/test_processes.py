"""One policy in two processes, which one command starts: real ones, ended in all ways.

Each runs train.py with a line that is called after every iteration, so that what
happens to one of them does not depend on timing. But for one run, whose processes are
three new interpreters, the command forks its own: see `forking`.
"""

import re
import shutil
import signal

import pytest
import running
from comparing import assert_same_runs, rows_of, run_in

from ppo_jax.cli import entry
from ppo_jax.runs import checkpoint, folders

pytestmark = pytest.mark.slow

# Calls LINE after each iteration with its number, in both processes.
CODE = """
import os, signal, sys, time
from ppo_jax.cli import entry, train
from ppo_jax.runs import finite

check, rank = finite.require_finite, os.environ.get("RANK")

def and_then(values, iteration, *rest):
    check(values, iteration, *rest)
    LINE

if rank:
    finite.require_finite = and_then
sys.argv[0] = "train.py"
entry.run_script(train.main)
"""
FORKING = """
import forking
from ppo_jax.cli import workers
workers.subprocess = forking
"""
TWO = ("--num_processes=2",)
RUN = (
    *(*running.TINY, *TWO, "actor.obs_normalization=true", "save_interval=2"),
    *("--logger=none", "--seed=3"),
)
END = 6
SECONDS = 300  # that any process of a test may take


def train(home, *argv, line="pass", fresh=False):
    """Runs train.py in two processes; returns its exit code, stdout and stderr."""
    home.mkdir(exist_ok=True)
    code = ("" if fresh else FORKING) + CODE.replace("LINE", line)
    parent = running.start(home, *argv, code=code, fresh=fresh)
    try:
        return running.finish(parent, SECONDS)
    finally:
        parent.kill()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run of END iterations that nothing disturbed."""
    home = tmp_path_factory.mktemp("whole")
    code, out, err = train(home, *RUN, f"--max_iterations={END}")
    assert code == 0, (out, err)
    return run_in(home)


def test_the_first_speaks_and_steps_of_both_count(tmp_path):
    argv = (*RUN, "--max_iterations=2", "--video")
    code, out, err = train(tmp_path, *argv, fresh=True)
    assert code == 0, (out, err)
    assert out.count("Cartpole: 8 environments") == 1
    assert "Trained 2 iterations (64 steps)" in out
    run = run_in(tmp_path)
    assert (run / "videos" / "play.mp4").is_file()
    assert '"shards": 2' in (checkpoint.path_of(run, 2) / "meta.json").read_text()


@pytest.mark.parametrize("victim", ["0", "1"])
def test_a_process_killed_with_sigkill_ends_both_and_nothing_is_lost(
    whole, tmp_path, victim
):
    line = f"rank == '{victim}' and iteration == 3 and os.kill(os.getpid(), 9)"
    code, out, err = train(tmp_path, *RUN, f"--max_iterations={END}", line=line)
    assert code == 128 + signal.SIGKILL, (out, err)
    assert f"process {victim} of 2 was ended by SIGKILL, and the others" in err
    assert checkpoint.iterations(run_in(tmp_path)) == [2]
    code, out, err = train(tmp_path, "--resume", *TWO, f"--max_iterations={END}")
    assert code == 0, (out, err)
    assert_same_runs(run_in(tmp_path), whole)


def test_ctrl_c_saves_once_and_the_run_goes_on_bit_for_bit(whole, tmp_path):
    """The parent gets the signal; both stop after the same iteration."""
    line = "rank == '1' and iteration == 3 and os.kill(os.getppid(), signal.SIGINT)"
    line += "; rank == '0' and time.sleep(0.3)"
    code, out, err = train(tmp_path, *RUN, f"--max_iterations={END}", line=line)
    assert code == 128 + signal.SIGINT, (out, err)
    assert out.count("SIGINT: saving") == 1
    assert out.count("Stopped by SIGINT; all is saved.") == 1
    assert "--resume" in out and out.rstrip().endswith("--num_processes 2")
    (saved,) = {3, 4, 5} & set(checkpoint.iterations(run_in(tmp_path))[-1:])
    assert f"Trained {saved} iterations" in out
    code, out, err = train(tmp_path, "--resume", *TWO, f"--max_iterations={END}")
    assert code == 0, (out, err)
    assert_same_runs(run_in(tmp_path), whole)


def test_an_exception_in_one_ends_both_with_its_sentence(tmp_path):
    line = "assert rank == '0' or iteration < 3, 'the robot fell off the table'"
    code, out, err = train(tmp_path, *RUN, "--max_iterations=1000000", line=line)
    assert code == 1, (out, err)
    assert "AssertionError: the robot fell off the table" in err
    assert "another process has ended" in err


def test_a_full_disk_of_the_first_is_said_and_ends_both(tmp_path):
    """Saving fails in process 0: that is a sentence, and no wait."""
    line = (
        "from ppo_jax.runs import checkpoint as c; import errno; "
        "c._write = lambda *a: (_ for _ in ()).throw(OSError(errno.ENOSPC, 'No space'))"
    )
    code, _, err = train(tmp_path, *RUN, "--max_iterations=1000000", line=line)
    assert code in (1, entry.USAGE_ERROR), err
    assert re.search(r"the disk of .* is full \(No space\)", err)


def test_on_another_number_of_processes_what_was_learned_goes_on(whole, tmp_path):
    """Two devices of one process are two shards as well: bit for bit; one is not."""
    target = tmp_path / folders.LOG_ROOT / "Cartpole" / whole.name
    shutil.copytree(whole, target, symlinks=True)
    code, out, err = train(tmp_path, "--resume", f"--max_iterations={END + 1}")
    assert code == 0, (out, err)
    assert "It was on 2 devices and is now on 1" in out
    assert len(rows_of(target)) == END + 1


def test_a_mistake_is_said_once_and_nothing_starts(tmp_path):
    code, _, err = train(tmp_path, *TWO, "gamma=2")
    assert code == entry.USAGE_ERROR
    assert err.count("gamma = 2") == 1
    assert not list(tmp_path.iterdir())
