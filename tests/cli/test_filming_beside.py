"""Films beside training: made by another process, of the policy that was learned."""

import io
import subprocess
import time
from functools import partial
from types import SimpleNamespace

import careless
import imageio.v3 as imageio
import jax
import numpy as np
import pytest
import running

from ppo_jax.cli import filming, filming_beside, train
from ppo_jax.cli.filming_beside import NO_FILMS, _Newest, films_in, start_filming
from ppo_jax.runs import companions, folders, metrics

pytestmark = pytest.mark.filterwarnings("ignore:os.fork")  # of reading films, here


@pytest.fixture(scope="module")
def trained():
    return running.tiny_trained(1)


@pytest.fixture
def compiled_beside_as_here(trained, monkeypatch):
    """The process beside, too; what is compiled here has read its flags before."""
    monkeypatch.setenv("XLA_FLAGS", careless.FLAGS)


def test_of_what_nobody_took_the_newest_is_left_and_the_end():
    due = _Newest()
    for thing in (1, 2, 3):
        due.put(thing)
    due.put(None)
    assert [due.take(), due.take()] == [3, None]


def test_rest_lasts_as_long_as_it_is_to_and_not_beyond_the_end():
    due = _Newest()
    due.put(1)
    begun = time.monotonic()
    due.rest(0.2)
    assert time.monotonic() - begun >= 0.2
    due.put(None)
    due.rest(1000.0)
    assert [due.take(), due.take()] == [1, None]


def test_films_have_a_tenth_of_the_time(monkeypatch):
    """One that takes two seconds is followed by eighteen in which none is begun."""
    now, asked, due = [100.0], [], _Newest()
    rest = lambda seconds: (asked.append(seconds), now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr(due, "rest", rest)
    monkeypatch.setattr(filming_beside.time, "monotonic", lambda: now[0])

    def readline():
        now[0] += 2.0
        return b"filmed\n"

    process = SimpleNamespace(
        stdin=io.BytesIO(), stdout=SimpleNamespace(readline=readline)
    )
    due.put((50, []))
    due.put(None)
    said = []
    filming_beside._feed(process, due, said)
    assert (asked, said) == ([filming_beside.SECONDS_TO_FIRST, 18.0], [])


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_beside_as_here")
def test_a_film_beside_training_is_that_of_the_policy(trained, tmp_path):
    """The same pictures as a film that is made here; what is unfinished has no name."""
    trainer, learned = trained
    notes = []
    films = start_filming(trainer, tmp_path, 10, notes.append)
    for done in range(1, 21):
        films.show(done, learned)
    films.close(240.0)
    assert notes == []
    assert films_in(tmp_path)[-1].name == "iteration_20.mp4"
    assert all(x.suffix == ".mp4" for x in (tmp_path / "videos").glob("[!.]*"))
    assert not list((tmp_path / "videos").glob(".*"))
    here = filming.film(trainer, learned, tmp_path / "here.mp4", trainer.config.seed)
    pictures = [imageio.imread(path) for path in (here, films_in(tmp_path)[-1])]
    np.testing.assert_array_equal(*pictures)


@pytest.mark.slow
def test_a_process_that_dies_is_a_line_and_no_more(trained, tmp_path, monkeypatch):
    trainer, learned = trained
    monkeypatch.setattr(companions, "START", "import sys; sys.exit(3)")
    notes = []
    films = start_filming(trainer, tmp_path, 1, notes.append)
    begun = time.monotonic()
    for done in range(1, 5):
        films.show(done, learned)
    films.close(60.0)
    assert time.monotonic() - begun < 30
    assert notes == ["there are no more films of this training: its process ended"]


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_beside_as_here")
def test_a_film_that_fails_says_why(trained, tmp_path):
    trainer, learned = trained
    (tmp_path / "videos").write_text("not a folder")
    notes = []
    films = start_filming(trainer, tmp_path, 1, notes.append)
    films.show(1, learned)
    films.close(240.0)
    (note,) = notes
    assert "there are no more films of this training: --video" in note


@pytest.mark.slow
def test_one_that_hangs_is_ended(trained, tmp_path, monkeypatch):
    trainer, learned = trained
    monkeypatch.setattr(companions, "START", "import time; time.sleep(1000)")
    notes = []
    films = start_filming(trainer, tmp_path, 1, notes.append)
    films.show(1, learned)
    begun = time.monotonic()
    films.close(0.5)
    assert time.monotonic() - begun < 60
    assert notes == ["a film of this training was not ready when it ended"]


@pytest.mark.slow
def test_it_ends_with_the_training_that_is_killed(tmp_path):
    """Its stdin ends: no process is left."""
    order = {"folder": "x", "config": {}}
    start = partial(companions.start_companion, filming_beside.__name__, order)
    with start(subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0


@pytest.mark.slow
def test_without_an_interval_there_is_no_process(trained, tmp_path):
    assert start_filming(trained[0], tmp_path, 0, print) is NO_FILMS


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_beside_as_here")
def test_training_is_the_same_and_leaves_films(tmp_path, monkeypatch, capsys):
    """The weights do not change by being looked at; the report shows the last film."""
    monkeypatch.chdir(tmp_path)
    argv = (*running.TINY, "--max_iterations=2", "--logger=none", "save_interval=1")
    assert running.call(train, *argv, "--video_interval=1", "--run_name=seen") == 0
    (run,) = (tmp_path / folders.LOG_ROOT / "Cartpole").iterdir()
    newest = run / "videos" / "iteration_2.mp4"
    assert (
        f"  video           {newest.relative_to(tmp_path)}" in capsys.readouterr().out
    )
    assert "data:video/mp4;base64," in (run / "report.html").read_text()
    assert running.call(train, *argv, "--run_name=alone") == 0
    (other,) = set(run.parent.iterdir()) - {run}
    seen, alone = (metrics.read_table(x) for x in (run, other))
    for name in ("value_loss", "kl", "surrogate_loss"):
        np.testing.assert_array_equal(seen[name], alone[name])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--video_interval=0"], "--video_interval 0: give a whole number above 0"),
        (
            ["--video_interval=5", "--task=torch:nowhere:make"],
            "--video_interval 5: torch:nowhere:make runs in a simulator",
        ),
    ],
)
def test_what_cannot_be_filmed_is_said_at_once(argv, message, capsys):
    assert running.call(train, *argv) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_clip_at_the_end_compiles_nothing_that_was_rehearsed(trained, tmp_path):
    """Its program is compiled while the run still trains."""
    trainer, learned = trained
    compiled = []

    def listen(name, seconds, **about):
        if name.endswith("backend_compile_duration"):
            compiled.append(about.get("fun_name"))

    jax.clear_caches()  # another test may have filmed the same trainer
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        filming.rehearse(trainer)
        assert "jit(record)" in compiled
        compiled.clear()
        filming.clip(trainer, learned, tmp_path)
        assert compiled == []
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
