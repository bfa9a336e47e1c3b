"""Sweeps over several processes, real ones that meet on 127.0.0.1."""

import signal
import threading
import time
from contextlib import contextmanager

import careless
import pytest
import running

from ppo_jax.cli import entry
from ppo_jax.cli import sweep as script
from ppo_jax.runs import processes
from ppo_jax.runs.cluster import Cluster, joined

SCRIPT = str(running.ROOT / "sweep.py")
SECONDS = 240  # that any process of a test may take
# Two that fail need not be waited for as long as many on many machines.
PART_SOON = "from ppo_jax.runs import cluster\ncluster.PARTING_SECONDS = 2\n"
SWEEP = (  # 6 members in chunks of 3, on 2 devices: one place is filled up
    *(word for word in running.TINY if "steps" not in word),
    *("--max_iterations=3", "num_steps_per_env=64", "--seed=5"),
    *("gamma=0.9,0.99", "--seeds=3", "--chunk_size=4", "--stop_bad=0.5"),
)
TABLES = ("table.parquet", "summary.csv")
TWO_DEVICES = f"{careless.FLAGS} --xla_force_host_platform_device_count=2"


@contextmanager
def two_processes(home, *argv, code=None, second=None):
    """Starts both processes of a sweep; when it is over, neither is left.

    Args:
      home: folder to sweep in.
      argv: arguments of both.
      code: that both run in place of sweep.py.
      second: arguments of the second, if it has others.
    """
    address = f"127.0.0.1:{running.free_port()}"
    both = []
    for number, mine in enumerate((argv, argv if second is None else second)):
        place = ("--num_processes=2", f"--process_id={number}")
        words = (*mine, f"--coordinator_address={address}", *place)
        words = words if code else (SCRIPT, *words)
        both.append(running.start(home, *words, code=code))
    try:
        yield both
    finally:
        for process in both:
            process.kill()
            process.communicate()


def finish_both(both):
    """Returns exit code, stdout and stderr of each; what they say fits the pipes."""
    return [running.finish(process, SECONDS) for process in both]


def folder_in(home):
    (folder,) = (home / script.SWEEPS).iterdir()
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of the sweep in one process, on two devices."""
    home = tmp_path_factory.mktemp("alone")
    process = running.start(home, SCRIPT, *SWEEP, XLA_FLAGS=TWO_DEVICES)
    try:
        code, out, err = running.finish(process, SECONDS)
    finally:
        process.kill()
    assert code == 0, (out, err)
    return folder_in(home)


def assert_same_tables(ours, theirs):
    for name in TABLES:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name


@pytest.mark.slow
def test_two_processes_end_with_the_tables_of_one(alone, tmp_path):
    """Byte for byte those of one process on two devices; only the first speaks."""
    with two_processes(tmp_path, *SWEEP) as both:
        (code, out, err), (other, silent, _) = finish_both(both)
    assert (code, other) == (0, 0), (out, err)
    assert "chunks of 3 members on 2 devices of 2 processes" in out
    assert "1 of 2 settings go on" in out
    said = [line for line in silent.splitlines() if not line.startswith("[Gloo]")]
    assert said == []
    assert_same_tables(folder_in(tmp_path), alone)


@pytest.mark.slow
def test_both_processes_killed_in_a_later_stage_are_resumed(alone, tmp_path):
    """SIGKILL with a chunk of the second stage half written: the same tables."""
    place = "stage1_program0_chunk0"
    code = running.WAIT_IN_CHUNK.replace("PLACE", place)
    with two_processes(tmp_path, *SWEEP, code=code) as both:
        wait_for_line(both[0], "waiting\n")
        for process in both:
            process.kill()
        ends = [end for end, _, _ in finish_both(both)]
    assert ends == [-signal.SIGKILL, -signal.SIGKILL]
    folder = folder_in(tmp_path)
    assert (folder / "chunks" / f".{place}.unfinished").exists()
    assert not (folder / "table.parquet").exists()
    with two_processes(tmp_path, "--resume") as both:
        (code, out, err), (other, _, _) = finish_both(both)
    assert (code, other) == (0, 0), (out, err)
    assert f"Resuming {folder.relative_to(tmp_path)}" in out
    assert_same_tables(folder, alone)


@pytest.mark.slow
def test_when_one_process_dies_the_other_says_so_and_ends(tmp_path):
    """Process 1 is killed; process 0 ends long before jax's heartbeat, 100 s."""
    code = PART_SOON + running.WAIT_IN_CHUNK.replace("PLACE", "chunk0")
    code = code.replace("1000", "2")
    with two_processes(tmp_path, *SWEEP, code=code) as both:
        wait_for_line(both[0], "waiting\n")
        both[1].kill()
        started = time.monotonic()
        code, _, err = running.finish(both[0], SECONDS)
    assert time.monotonic() - started < 60
    assert code == entry.ANOTHER_ENDED, err
    assert "sweep.py: another process has ended (" in err
    assert "start all processes again with --resume" in err
    assert (folder_in(tmp_path) / "chunks" / "stage0_program0_chunk0").is_dir()


@pytest.mark.slow
def test_what_fails_in_process_0_alone_ends_both(tmp_path):
    """The disk is full: a sentence in process 0, and the other does not wait."""
    code = PART_SOON + running.WAIT_IN_CHUNK.replace("PLACE", "chunk0")
    code = code.replace("time.sleep(1000)", "raise OSError('no space left')")
    with two_processes(tmp_path, *SWEEP, code=code) as both:
        (code, _, err), (other, _, _) = finish_both(both)
    assert code == entry.USAGE_ERROR
    assert "sweep.py: no space left" in err
    assert other != 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "second", "sentence"),
    [
        (SWEEP, (*SWEEP, "lam=0.8"), "process 1 has other arguments than process 0"),
        (["--resume"], None, "sweeps holds no sweep: start one first"),
    ],
    ids=["other arguments", "nothing to resume"],
)
def test_a_mistake_is_said_by_both_and_ends_both(tmp_path, argv, second, sentence):
    with two_processes(tmp_path, *argv, second=second) as both:
        ends = finish_both(both)
    for code, _, err in ends:
        assert code == entry.USAGE_ERROR, err
        assert sentence in err
    assert not list(tmp_path.glob("**/manifest.json"))


def wait_for_line(process, wanted):
    """Reads stdout up to a line; the process is killed if it never comes."""
    watchdog = threading.Timer(SECONDS, process.kill)
    watchdog.start()
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line == wanted:
                return
        raise AssertionError((lines, process.stderr.read()))
    finally:
        watchdog.cancel()


MEET = ("--coordinator_address=10.0.0.1:1234", "--num_processes=2", "--process_id=1")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (MEET[:2], "--process_id is missing: give --coordinator_address, --num_proc"),
        (MEET[1:], "--coordinator_address is missing: give"),
        ((MEET[0], MEET[2]), "--num_processes is missing: give"),
        ((*MEET, "--distributed"), "leave --coordinator_address away"),
        (("--coordinator_address=there", *MEET[1:]), "there: give HOST:PORT"),
        (("--coordinator_address=there:99999", *MEET[1:]), "give HOST:PORT"),
        ((*MEET[:2], "--process_id=2"), "--process_id 2: give each of the 2 processes"),
        ((*MEET[:2], "--process_id=-1"), "--process_id -1: give each of the 2"),
        ((MEET[0], "--num_processes=0", MEET[2]), "--num_processes 0: give a whole"),
        ((*MEET, "--export=best"), "--export has no use for coordinator_address"),
    ],
)
def test_a_wrong_flag_is_one_sentence_and_nothing_starts(
    tmp_path, monkeypatch, capsys, argv, sentence
):
    monkeypatch.chdir(tmp_path)
    assert running.call(script, *argv) == entry.USAGE_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
    assert not list(tmp_path.iterdir())


def test_without_a_cluster_distributed_says_what_to_give(monkeypatch):
    for name in ("JAX_COORDINATOR_ADDRESS", "SLURM_JOB_ID", "OMPI_MCA_orte_hnp_uri"):
        monkeypatch.delenv(name, raising=False)

    def initialize():
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(processes.jax.distributed, "initialize", initialize)
    with (
        pytest.raises(ValueError, match=r"--distributed: .*or give --coordinator_add"),
        joined(Cluster()),
    ):
        pass


def test_alone_nothing_is_sent():
    """One process decides for itself."""
    assert processes.is_first()
    assert processes.count() == 1
    assert processes.agree(lambda: ("kept", "as it is")) == ("kept", "as it is")
    assert (processes.least(3), processes.most(2**40)) == (3, 2**40)
    processes.check_same("anything", {"a": 1})
