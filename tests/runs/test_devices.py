"""One policy on two devices of the CPU: real processes of train.py."""

import os

import pytest
import running
from comparing import assert_same_runs, learned_in, rows_of, run_in

from ppo_jax.cli import entry
from ppo_jax.runs import folders

SCRIPT = str(running.ROOT / "train.py")
TWO = "--xla_force_host_platform_device_count=2"
RUN = (
    *(*running.TINY, "--devices=2", "actor.obs_normalization=true", "save_interval=2"),
    *("--logger=none", "--seed=3"),
)


def train(home, *argv, flags=TWO):
    """Runs train.py in a folder with so many devices; returns what it printed."""
    home.mkdir(exist_ok=True)
    flags = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    process = running.start(home, SCRIPT, *argv, XLA_FLAGS=flags)
    return running.finish(process)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of four iterations on two devices."""
    home = tmp_path_factory.mktemp("whole")
    code, out, err = train(home, *RUN, "--max_iterations=4", "--video")
    assert code == 0, (out, err)
    assert (run_in(home) / "videos" / "play.mp4").is_file()
    return run_in(home)


@pytest.mark.slow
def test_a_run_on_two_devices_is_resumed_bit_for_bit(whole, tmp_path):
    """Episodes, keys and statistics of both go on; env steps are those of both."""
    code, out, err = train(tmp_path, *RUN, "--max_iterations=2")
    assert code == 0, (out, err)
    code, out, err = train(tmp_path, "--resume", "--max_iterations=4")
    assert code == 0, (out, err)
    assert "128 steps" in out
    assert_same_runs(run_in(tmp_path), whole)


@pytest.mark.slow
def test_on_another_number_of_devices_what_was_learned_goes_on(whole, tmp_path):
    home = tmp_path / "home"
    target = home / folders.LOG_ROOT / "Cartpole" / whole.name
    target.parent.mkdir(parents=True)
    os.rename(whole, target)
    try:
        code, _, err = train(home, "--resume", "--max_iterations=6", flags="")
        assert code == entry.USAGE_ERROR
        assert "devices = 2, but this machine has 1" in err
        code, out, err = train(
            home, "--resume", "--max_iterations=6", "--devices=1", flags=""
        )
    finally:
        os.rename(target, whole)
    assert code == 0, (out, err)
    assert "It was on 2 devices and is now on 1: what was learned goes on" in out
    iteration, state = learned_in(whole)
    assert (iteration, state.iteration) == (6, 6)
    assert [row["iteration"] for row in rows_of(whole)] == list(map(str, range(6)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("--devices=2", "--num_envs=9"), "num_envs = 9 cannot be split over 2 dev"),
        (("--devices=3",), "devices = 3, but this machine has 2"),
    ],
)
def test_what_cannot_be_split_is_one_sentence(tmp_path, argv, sentence):
    code, _, err = train(tmp_path, *argv)
    assert code == entry.USAGE_ERROR
    assert sentence in err
    assert not (tmp_path / "logs").exists()
