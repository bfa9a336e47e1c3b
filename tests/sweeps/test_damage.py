"""What a disk does to a sweep is noticed, said with the file's name, and made good."""

import random
import shutil

import pytest
import running
from sweeping import waiting

from ppo_jax.cli import sweep as script
from ppo_jax.loops.pbt_config import PBTConfig
from ppo_jax.sweeps import files, folder, planning

WORDS = (*running.TINY, "--max_iterations=2", "gamma=0.9,0.99", "--chunk_size=1")
CHUNKS = ["stage0_program0_chunk0", "stage0_program0_chunk1"]


@pytest.fixture(scope="module")
def finished(home):
    """The folder of a sweep of two settings, in a chunk each."""
    assert running.call(script, *WORDS, "--name=whole") == 0
    (found,) = script.SWEEPS.iterdir()
    return found


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "sweep")


def flip(path, bit):
    """Flips a bit of a file."""
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def noticed(place):
    """Returns what is said of a sweep before anything is read from it."""
    try:
        folder.load_manifest(place)
        return " ".join(folder.require_whole(place))
    except ValueError as error:
        return str(error)


@pytest.mark.slow
def test_sixty_of_sixty_flipped_bits_are_noticed(copied):
    """Anywhere in any file of a sweep: the sentence names the file, or the sums."""
    rng = random.Random(7)
    ours = sorted(path for path in copied.rglob("[!.]*") if path.is_file())
    assert {path.name for path in ours} == {
        *("manifest.json", "table.parquet", "summary.csv", "SHA256SUMS"),
        *("learning_curves.png", "response.png"),
        *("rows.parquet", "runs.npz", "chunk.json"),
    }
    assert noticed(copied) == ""
    silent = []
    for _ in range(60):
        path = rng.choice(ours)
        bit = rng.randrange(8 * path.stat().st_size)
        flip(path, bit)
        said = noticed(copied)
        if path.name not in said and not (path.name == "SHA256SUMS" and said):
            silent.append((path, bit, said))
        flip(path, bit)
    assert silent == []
    assert noticed(copied) == ""


@pytest.mark.slow
def test_every_file_that_is_missing_is_named(copied):
    for path in sorted(p for p in copied.rglob("[!.]*") if p.is_file()):
        data = path.read_bytes()
        path.unlink()
        said = noticed(copied)
        assert path.name in said or "is not a sweep" in said
        path.write_bytes(data)


@pytest.mark.slow
def test_a_damaged_chunk_is_made_anew_and_the_table_is_the_same(copied, capsys):
    """Also a result that is made of the chunks; what was damaged is set aside."""
    table = (copied / folder.TABLE).read_bytes()
    flip(copied / files.CHUNKS / CHUNKS[1] / files.RUNS, 900)
    flip(copied / folder.TABLE, 900)
    assert running.call(script, "--resume", f"--sweep={copied}") == 0
    out = capsys.readouterr().out
    assert f"{CHUNKS[1]}/runs.npz was altered: the chunk is made anew." in out
    assert "table.parquet was altered: made anew." in out
    assert (copied / folder.TABLE).read_bytes() == table
    assert files.finished(copied) == CHUNKS
    assert [path.name for path in (copied / files.SET_ASIDE).iterdir()] == [CHUNKS[1]]
    assert noticed(copied) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("chunks/stage0_program0_chunk0/runs.npz", "make its chunk anew with --resume"),
        ("chunks/stage0_program0_chunk1/rows.parquet", "was altered"),
        ("manifest.json", "restore it from a copy, or start the sweep again"),
    ],
)
def test_nothing_is_exported_from_what_was_damaged(copied, capsys, name, words):
    flip(copied / name, 800)
    assert running.call(script, "--export=best", f"--sweep={copied}") == 2
    err = capsys.readouterr().err
    assert name in err
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_an_export_says_which_result_was_damaged(copied, capsys, tmp_path, monkeypatch):
    """It does not read the summary: it goes on."""
    monkeypatch.chdir(tmp_path)
    flip(copied / folder.SUMMARY, 99)
    assert running.call(script, "--export=0", f"--sweep={copied}") == 0
    assert "summary.csv was altered: --resume makes it anew." in capsys.readouterr().out


@pytest.mark.slow
def test_a_chunk_under_another_name_is_damage(copied):
    """Its digests are right, and it is another chunk's."""
    chunks = copied / files.CHUNKS
    shutil.rmtree(chunks / CHUNKS[1])
    shutil.copytree(chunks / CHUNKS[0], chunks / CHUNKS[1])
    assert "chunk.json is of stage0_program0_chunk0" in noticed(copied)


def test_a_population_is_made_anew_as_a_whole(tmp_path):
    """Only its last save has the runs; another population stays."""
    sweep = tmp_path / "sweep"
    names = [f"stage{s}_program0_chunk{c}" for s in range(3) for c in range(2)]
    for name in names:
        about = {"stage": 0, "members": [0], "seconds": 1.0}
        files.save_chunk(sweep, name, {"member": [0]}, {}, about)
        files.drop_runs(sweep, name)
    flip(sweep / files.CHUNKS / names[2] / files.ROWS, 900)
    plan = planning.Sweep(None, (), ({},), 1, population=2, pbt=PBTConfig())
    (said, *_) = folder.mend(sweep, plan)
    assert said.endswith("rows.parquet was altered: its population is made anew.")
    assert files.finished(sweep) == names[1::2]


@pytest.mark.slow
def test_what_is_no_sweep_is_passed_over(finished, capsys):
    """Hidden files, folders without a plan and half-made ones, however new."""
    (script.SWEEPS / "zzz").mkdir()
    (script.SWEEPS / "zzz.txt").write_text("notes")
    half = script.SWEEPS / "9999-01-01_00-00-00_half"
    half.mkdir()
    (half / ".manifest.json").write_text("{")
    shutil.copytree(finished, script.SWEEPS / ".zz_hidden")
    (finished / files.CHUNKS / "my_notes").mkdir()
    (finished / files.CHUNKS / ".DS_Store").write_text("x")
    assert running.call(script, "--resume") == 0
    assert f"Resuming {finished}." in capsys.readouterr().out
    assert (finished / files.CHUNKS / "my_notes").is_dir()
    for path in script.SWEEPS.iterdir():
        if path != finished:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.slow
def test_a_sweep_is_held_by_one_process(home, capsys, tmp_path):
    """A second process is told who has it; after SIGKILL the next one goes on."""
    process = waiting(CHUNKS[1], tmp_path, *WORDS)
    assert any(line == "waiting\n" for line in process.stdout)
    (sweep,) = (tmp_path / script.SWEEPS).iterdir()
    assert running.call(script, "--resume", f"--sweep={sweep}") == 2
    err = capsys.readouterr().err
    assert f"the sweep {sweep} is held by another process, {process.pid} on" in err
    process.kill()
    running.finish(process)
    assert running.call(script, "--resume", f"--sweep={sweep}") == 0
