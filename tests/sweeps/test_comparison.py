"""Runs side by side: groups, means and intervals, checked by hand and by scipy."""

import re

import pytest
import running
import scipy

from ppo_jax.cli import compare
from ppo_jax.runs import config_fields, folders, metrics
from ppo_jax.runs.config import Config
from ppo_jax.sweeps import comparison, intervals


def write_run(folder, returns, **changes):
    """A run as training leaves it, with a return for each iteration."""
    config = Config(task="Cartpole", num_envs=10, num_steps_per_env=5)
    config = config_fields.override(config, {"solved_return": 4.0} | changes)
    config_fields.save(config, folder / folders.CONFIG_FILE)
    rows = [
        f"{i},{0.5 * (i + 1)},{'' if x is None else x},300,{100 * (i + 1)}"
        for i, x in enumerate(returns)
    ]
    head = "iteration,seconds,episode_return,episode_length,steps_per_second"
    (folder / metrics.TABLE).write_text("\n".join([head, *rows, ""]))
    return folder


@pytest.fixture
def runs(tmp_path):
    """Three seeds that end at 3, 4, 5; two of another gamma at 1 and 2."""
    folders_ = [
        write_run(tmp_path / f"a{s}", [0.0, 1.0, 2.0 + s], seed=s) for s in (1, 2, 3)
    ]
    folders_ += [
        write_run(tmp_path / f"b{s}", [None, 0.5, s], seed=s, gamma=0.5) for s in (1, 2)
    ]
    return folders_


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 10, 51])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_t_is_scipys(freedom, confidence):
    wanted = scipy.stats.t.ppf((1 + confidence) / 2, freedom)
    assert intervals.t_quantile(freedom, confidence) == pytest.approx(wanted, rel=1e-9)


def test_an_interval_by_hand():
    """3, 4, 5: mean 4, s 1, t(2) = 4.30265; reach 4.30265 / sqrt 3 = 2.48414."""
    found = intervals.mean_interval([3.0, 4.0, float("nan"), 5.0])
    assert found == pytest.approx((4.0, 4 - 2.484138, 4 + 2.484138), abs=1e-5)
    lone = intervals.mean_interval([3.0])
    assert lone.mean == 3.0 and lone.low != lone.low
    assert intervals.mean_interval([]).mean != intervals.mean_interval([]).mean


def test_seeds_of_a_configuration_are_a_group_the_best_first(runs):
    groups = comparison.groups_of(comparison.read_runs(runs[::-1]))
    assert [group.label for group in groups] == ["gamma=0.99", "gamma=0.5"]
    assert [len(group.runs) for group in groups] == [3, 2]
    assert groups[0].final_return().mean == pytest.approx(4.0)
    first, second = comparison.rows_of(groups)
    assert first[:5] == ("gamma=0.99", "3", "3", "4", "1.516 to 6.484")
    assert first[5:] == ("2 of 3", "3", "200", "1.5 s")
    assert second[5:7] == ("0 of 2", "-")


def test_curves_go_as_far_as_all_seeds(runs, tmp_path):
    """50 steps an iteration; the second value is 1 in all, the third 3, 4, 5."""
    write_run(tmp_path / "a4", [0.0, 1.0], seed=4)
    best = comparison.groups_of(comparison.read_runs([*runs[:3], tmp_path / "a4"]))[0]
    steps, values = comparison.curves_of(best, "episode_return")
    assert steps == [50, 100]
    assert values[1] == pytest.approx((1.0, 1.0, 1.0))


def test_what_does_not_learn_makes_no_group(runs, tmp_path):
    more = write_run(tmp_path / "c", [4.0], seed=9, logger="none", run_name="mine")
    assert len(comparison.groups_of(comparison.read_runs([*runs[:3], more]))) == 1


def test_the_verb_prints_a_table_and_writes_the_overlay(runs, tmp_path, capsys):
    assert running.call(compare, str(tmp_path)) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split()[:4] == ["configuration", "seeds", "iterations", "final"]
    assert out[1].startswith("gamma=0.99")
    assert "1.516 to 6.484" in out[1]
    text = (tmp_path / "compare.html").read_text()
    assert out[-1].startswith("Curves: ") and out[-1].endswith("compare.html")
    assert not re.search(r"https?:|@import|url\(", text)
    assert '<td class="n">1.516 to 6.484</td>' in text
    chart = text.split("<svg")[1]
    assert chart.count('class="band') == 2
    assert chart.count("faint") == 5
    assert "95 % t interval" in text


def test_a_page_of_ones_own(runs, tmp_path, capsys):
    page = tmp_path / "mine.html"
    assert running.call(compare, *map(str, runs[:2]), "--out", str(page)) == 0
    assert page.exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "give the folders of two or more"),
        (["a1"], "give the folders of two or more"),
        (["a1", "a1"], "a1 is named twice"),
        (["a1", "nowhere"], "nowhere is not a run"),
        (["a1", "empty"], "empty has finished no iteration yet"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(
    runs, tmp_path, monkeypatch, argv, message, capsys
):
    write_run(tmp_path / "empty", [])
    monkeypatch.chdir(tmp_path)
    assert running.call(compare, *argv) == 2
    assert message in capsys.readouterr().err
