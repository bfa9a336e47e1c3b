"""Curves: the tags of rsl_rl, and files that survive a death and a resume."""

import csv
import math
import shutil

import matplotlib.image
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ppo_jax.runs import events, metrics, plots

RSL_RL_TAGS = {  # of 5.5.1; learning and collecting are one program here
    "value_loss": "Loss/value",
    "surrogate_loss": "Loss/surrogate",
    "entropy": "Loss/entropy",
    "learning_rate": "Loss/learning_rate",
    "mean_std": "Policy/mean_std",
    "steps_per_second": "Perf/total_fps",
    "episode_return": "Train/mean_reward",
    "episode_length": "Train/mean_episode_length",
}


def write(folder, iterations, first=0, logger="tensorboard", scale=1.0, pace=0.4):
    """Writes iterations as a run does; the return is NaN before iteration 2."""
    writer = metrics.open_writer(folder, logger, first)
    for iteration in iterations:
        scalars = {
            "episode_return": scale * iteration if iteration >= 2 else math.nan,
            "value_loss": scale * 0.5,
            "log/Metrics/success": 1.0,
        }
        writer.write(iteration, scalars, pace * iteration)
    return writer


def scalars_of(folder, tag):
    """Returns [(step, value)] as TensorBoard reads a run."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return [(point.step, point.value) for point in events.Scalars(tag)]


def event_files(folder):
    return sorted(folder.glob(f"{metrics.EVENTS}*"))


def test_tags_are_those_of_rsl_rl():
    """What rsl_rl logs too has its tag; what an environment logs keeps its own."""
    assert {name: metrics.tag_of(name) for name in RSL_RL_TAGS} == RSL_RL_TAGS
    assert metrics.tag_of("log/Episode_Reward/lift") == "Episode_Reward/lift"
    assert metrics.tag_of("log/lift") == "Episode/lift"
    assert metrics.tag_of("new_metric") == "Train/new_metric"
    assert len(set(metrics.TAGS.values())) == len(metrics.TAGS)


def test_tensorboard_may_be_one_of_several_loggers(tmp_path):
    write(tmp_path, range(3), logger="csv,tensorboard").close()
    assert [step for step, _ in scalars_of(tmp_path, "Loss/value")] == [0, 1, 2]
    write(tmp_path / "csv", range(3), logger="csv").close()
    assert event_files(tmp_path / "csv") == []
    assert len(metrics.read_table(tmp_path / "csv")["iteration"]) == 3


def test_curves_are_there_while_the_run_lives(tmp_path):
    """Nothing waits in a buffer: a run that is killed here loses no line."""
    writer = write(tmp_path, range(5))
    assert metrics.read_table(tmp_path)["iteration"] == [0, 1, 2, 3, 4]
    assert scalars_of(tmp_path, "Loss/value") == [(i, 0.5) for i in range(5)]
    assert scalars_of(tmp_path, "Metrics/success")[-1] == (4, 1.0)
    writer.close()


def test_no_value_is_an_empty_cell_and_no_point(tmp_path):
    """NaN means that there is none yet: no episode has ended."""
    write(tmp_path, range(4)).close()
    column = metrics.read_table(tmp_path)["episode_return"]
    np.testing.assert_array_equal(column, [np.nan, np.nan, 2.0, 3.0])
    assert scalars_of(tmp_path, "Train/mean_reward") == [(2, 2.0), (3, 3.0)]


def test_return_is_drawn_over_seconds_too(tmp_path):
    """rsl_rl's "/time" curves have whole seconds as their steps."""
    write(tmp_path, range(6)).close()
    points = scalars_of(tmp_path, "Train/mean_reward/time")
    assert points == [(0, 2.0), (1, 3.0), (1, 4.0), (2, 5.0)]  # 0.8, 1.2, 1.6, 2.0 s


@pytest.mark.parametrize("pace", [0.4, 10.0])  # seconds are no iterations
def test_resume_leaves_no_gap_and_no_double(tmp_path, pace):
    """Resumed at 3 after 5 iterations, 3 and 4 are those of the resumed run."""
    write(tmp_path, range(5), pace=pace).close()
    write(tmp_path, range(3, 7), first=3, scale=10.0, pace=pace).close()
    expected = [(2, 2.0), (3, 30.0), (4, 40.0), (5, 50.0), (6, 60.0)]
    assert scalars_of(tmp_path, "Train/mean_reward") == expected
    table = metrics.read_table(tmp_path)
    assert table["iteration"] == [0, 1, 2, 3, 4, 5, 6]
    assert table["episode_return"][2:] == [2.0, 30.0, 40.0, 50.0, 60.0]
    times = scalars_of(tmp_path, "Train/mean_reward/time")
    assert [value for _, value in times] == [2.0, 30.0, 40.0, 50.0, 60.0]


def test_events_are_cut_even_if_none_are_written(tmp_path):
    """A resume without TensorBoard must not leave what its run has taken back."""
    write(tmp_path, range(5)).close()
    write(tmp_path, range(3, 6), first=3, logger="none").close()
    assert scalars_of(tmp_path, "Loss/value") == [(0, 0.5), (1, 0.5), (2, 0.5)]
    assert len(event_files(tmp_path)) == 1


def test_a_new_run_in_an_old_folder_starts_anew(tmp_path):
    """From iteration 0 on everything is cut."""
    write(tmp_path, range(5)).close()
    write(tmp_path, range(2), scale=3.0).close()
    assert metrics.read_table(tmp_path)["value_loss"] == [1.5, 1.5]
    assert scalars_of(tmp_path, "Loss/value") == [(0, 1.5), (1, 1.5)]


@pytest.mark.parametrize("missing", [1, 5, 9, 20])
def test_torn_event_is_cut_off(tmp_path, missing):
    """A record that a dying process wrote in part goes; the ones before stay."""
    write(tmp_path, range(2)).close()  # before the first return: one record each
    (path,) = event_files(tmp_path)
    path.write_bytes(path.read_bytes()[:-missing])
    write(tmp_path, range(1, 3), first=1).close()
    assert scalars_of(tmp_path, "Loss/value") == [(0, 0.5), (1, 0.5), (2, 0.5)]


@pytest.mark.parametrize("missing", [1, 5, 20])
def test_torn_event_over_time_is_cut_off(tmp_path, missing):
    """Also the last record, of which only a checksum may be missing."""
    write(tmp_path, range(3)).close()
    (path,) = event_files(tmp_path)
    whole = path.read_bytes()
    write(tmp_path, range(3, 4), first=3).close()
    path.write_bytes(whole[:-missing])
    write(tmp_path, range(3, 4), first=3, logger="none").close()
    assert whole.startswith(path.read_bytes())
    assert len(whole) - path.stat().st_size > 20
    assert scalars_of(tmp_path, "Loss/value") == [(i, 0.5) for i in range(3)]


def test_garbled_event_is_cut_off(tmp_path):
    """What is no event at all ends what is kept of a file."""
    write(tmp_path, range(2)).close()
    (path,) = event_files(tmp_path)
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write((4).to_bytes(8, "little") + b"\0" * 4 + b"\xff" * 4 + b"\0" * 4)
    write(tmp_path, range(2, 3), first=2).close()
    assert path.stat().st_size == size


@pytest.mark.parametrize("torn", ["1", "12", "12,4.8", "12,4.8,12.0,0.5,"])
def test_torn_row_is_cut_off(tmp_path, torn):
    """A row in part goes, also if what is left of its number is a smaller one."""
    write(tmp_path, range(12), logger="none").close()
    with (tmp_path / metrics.TABLE).open("a") as file:
        file.write(torn)
    write(tmp_path, range(12, 14), first=12, logger="none").close()
    with (tmp_path / metrics.TABLE).open(newline="") as file:
        assert [row[0] for row in csv.reader(file)][1:] == [str(i) for i in range(14)]


def test_table_that_was_deleted_is_begun_anew(tmp_path):
    """Curves are no checkpoint: a run goes on without them."""
    write(tmp_path, range(3), logger="none").close()
    (tmp_path / metrics.TABLE).unlink()
    write(tmp_path, range(3, 5), first=3, logger="none").close()
    assert metrics.read_table(tmp_path)["iteration"] == [3, 4]


def test_learning_curve_is_drawn(tmp_path):
    """The picture is there, of a size to look at, and shows the goal and the curves."""
    write(tmp_path, range(30), logger="none").close()
    path = plots.save_learning_curve(tmp_path, "Cartpole", goal=4.8)
    assert path == tmp_path / "learning_curve.png"
    image = matplotlib.image.imread(path)
    assert image.shape[0] > 400
    assert image.shape[1] > 600
    blue = (abs(image[..., :3] - [0.12, 0.47, 0.71]).max(-1) < 0.1).sum()
    assert blue > 100  # the return


def test_learning_curve_of_a_run_without_an_episode(tmp_path):
    """Columns that are missing or empty leave their panel empty."""
    write(tmp_path, range(1), logger="none").close()
    assert plots.save_learning_curve(tmp_path, "Cartpole", goal=4.8).exists()


def test_what_is_reported_late_gets_a_column_of_its_own(tmp_path):
    """A simulator logs a tag when it first has one; earlier cells stay empty."""
    writer = metrics.open_writer(tmp_path, "none")
    writer.write(0, {"loss": 1.0}, 0.1)
    writer.write(1, {"loss": 2.0, "log/Metrics/success_rate": 0.5}, 0.2)
    writer.write(2, {"loss": 3.0}, 0.3)
    writer.close()
    table = metrics.read_table(tmp_path)
    assert table["loss"] == [1.0, 2.0, 3.0]
    np.testing.assert_equal(table["log/Metrics/success_rate"], [np.nan, 0.5, np.nan])
    writer = metrics.open_writer(tmp_path, "none", first_iteration=2)
    writer.write(2, {"loss": 4.0, "log/Metrics/success_rate": 1.0}, 0.3)
    writer.close()
    assert metrics.read_table(tmp_path)["log/Metrics/success_rate"][1:] == [0.5, 1.0]


TAGS_THERE = ("Loss/value", "Train/mean_reward", "Train/mean_reward/time")


def curves_of(folder):
    """Returns all curves as TensorBoard reads them."""
    return {tag: scalars_of(folder, tag) for tag in TAGS_THERE}


@pytest.mark.parametrize("place", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("how", ["flipped", "cut", "zeros", "deleted"])
def test_damaged_events_are_filled_again_from_the_table(tmp_path, place, how):
    """Wherever an event file is damaged, a resume loses no curve, and says so."""
    write(tmp_path / "good", range(14)).close()
    folder = shutil.copytree(tmp_path / "good", tmp_path / "damaged")
    (path,) = event_files(folder)
    data = bytearray(path.read_bytes())
    at = int(place * events.read(path, 10).size)
    if how == "flipped":
        data[at] ^= 4
    elif how == "cut":
        data = data[:at]
    elif how == "zeros":
        data[at : at + 100] = bytes(100)
    path.unlink() if how == "deleted" else path.write_bytes(data)
    notes = []
    for run in (folder, tmp_path / "good"):
        writer = write(run, range(10, 12), first=10)
        writer.close()
        notes.append(writer.notes)
    assert curves_of(folder) == curves_of(tmp_path / "good")
    assert notes[1] == ()
    (sentence,) = notes[0]
    assert sentence.endswith("iterations: filled again from metrics.csv.")


def test_events_that_the_table_lacks_are_kept(tmp_path):
    """A table without its beginning replaces nothing; both losses are said."""
    write(tmp_path, range(5)).close()
    (tmp_path / metrics.TABLE).unlink()
    write(tmp_path, range(5, 9), first=5).close()
    (_, newer) = event_files(tmp_path)
    newer.unlink()
    writer = write(tmp_path, range(9, 10), first=9)
    writer.close()
    assert scalars_of(tmp_path, "Loss/value") == [(i, 0.5) for i in range(10)]
    assert len(writer.notes) == 2
    assert "of 4 iterations" in writer.notes[0]
    assert "lacks 5 of the 9 iterations" in writer.notes[1]


def test_the_checksum_of_many_events_is_that_of_each():
    """CRC-32C by NumPy, masked as TensorFlow masks it, equals tensorboardX's."""
    from tensorboardX.record_writer import masked_crc32c

    rows = np.random.default_rng(0).integers(0, 256, (50, 33), dtype=np.uint8)
    expected = [masked_crc32c(row.tobytes()) for row in rows]
    assert events._masked_crc32c(rows).tolist() == expected


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("\r\n3,", "\r\nthree,", "line 5 begins with 'three'"),
        ("\r\n3,", "\r\n2,", "line 5 is iteration 2 after 2"),
        ("\r\n3,1.2,", "\r\n3,", "line 5 has 4 cells instead of 5"),
        ("\r\n3,1.2,3.0", "\r\n3,1.2,3.0.0", "line 5 has '3.0.0' as episode_return"),
        ("iteration,", "iterations,", "line 1 is not its header"),
        ("seconds,", "seconds,seconds,", "line 1 is not its header"),
        ("\r\n3,", '\r\n"3,', "unexpected end"),
    ],
)
def test_a_damaged_table_is_a_sentence_at_once(tmp_path, old, new, words):
    """It names the file and the line; nothing is cut before that."""
    write(tmp_path, range(6)).close()
    path = tmp_path / metrics.TABLE
    text = path.read_bytes().decode()
    assert text.count(old) == 1
    path.write_bytes(text.replace(old, new).encode())
    contents = lambda: [p.read_bytes() for p in sorted(tmp_path.iterdir())]
    before = contents()
    for reads in (
        lambda: metrics.open_writer(tmp_path, "tensorboard", 5),
        lambda: metrics.read_table(tmp_path),
        lambda: metrics.check_table(tmp_path),
    ):
        with pytest.raises(ValueError, match="is damaged") as error:
            reads()
        assert str(path) in str(error.value)
        assert words in str(error.value)
    assert contents() == before


@pytest.mark.parametrize("data", [b"\xff\xfe\n", b"\0" * 50 + b"\n", b"a\0,b\n"])
def test_a_table_of_garbage_is_a_sentence(tmp_path, data):
    """Not text, or zeros, as a file system leaves them after a crash."""
    (tmp_path / metrics.TABLE).write_bytes(data)
    with pytest.raises(ValueError, match=r"metrics.csv is damaged: .*delete it"):
        metrics.check_table(tmp_path)


def test_a_picture_is_drawn_once_and_is_that_of_savefig(tmp_path):
    """`savefig` draws twice, and drawing takes most of the time of a run's end."""
    figure = plots.new_figure((3, 2), "title")
    figure.subplots().plot([1, 2, 3])
    drawn, draw = [], figure.draw
    figure.draw = lambda renderer: (drawn.append(renderer), draw(renderer))

    path = plots.save_figure(figure, tmp_path / "ours.png")
    assert len(drawn) == 1
    figure.savefig(tmp_path / "theirs.png", dpi=110)
    pictures = path, tmp_path / "theirs.png"
    np.testing.assert_array_equal(*map(matplotlib.image.imread, pictures))
