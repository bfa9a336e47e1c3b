"""Sweeps with --population: members that share the environments, saved on the way."""

import json

import matplotlib.image
import numpy as np
import pytest
import running
from sweeping import (
    assert_same_table,
    kill_at,
    sweep_process,
    table_of,
)

from ppo_jax.cli import entry, play, train
from ppo_jax.cli import sweep as script
from ppo_jax.loops.pbt_config import PBTConfig
from ppo_jax.runs import checkpoint, folders, metrics
from ppo_jax.runs.config_fields import load
from ppo_jax.sweeps import pictures
from ppo_jax.sweeps.planning import from_dict, to_dict

ITERATIONS = 6
TINY = (
    *(word for word in running.TINY if "num_envs" not in word and "steps" not in word),
    *("num_steps_per_env=64", f"--max_iterations={ITERATIONS}", "--seed=5"),
)
RATES = ("schedule=fixed", "learning_rate=1e-4,1e-3,3e-3,1e-2")
FOUR = ("--population=4", "--num_envs=32", "save_interval=2")
PBT = ("--pbt", "--perturbation_interval=2", "--quantile_fraction=0.5")


def run_sweep(name, *argv):
    assert running.call(script, *TINY, *RATES, *argv, f"--name={name}") == 0
    (folder,) = script.SWEEPS.glob(f"*_{name}")
    return folder


@pytest.fixture(scope="module")
def evolved(home):
    """The folder of a population of 4 that evolves, 8 environments each."""
    return run_sweep("evolved", *FOUR, *PBT)


@pytest.mark.slow
def test_members_are_those_of_a_sweep_with_their_part_of_the_environments(home):
    """A population of 2 x 2 with 16 environments is a sweep with 8, to rounding."""
    two = run_sweep("two", "--population=2", "--num_envs=16", "save_interval=4")
    alone = run_sweep("alone", "--num_envs=8")
    names = {path.name for path in (two / "chunks").iterdir()}
    assert names == {
        f"stage{stage}_program0_chunk{chunk}" for stage in (0, 1) for chunk in (0, 1)
    }
    assert_same_table(table_of(two), table_of(alone))


@pytest.mark.slow
def test_only_the_last_save_keeps_the_runs(evolved):
    """Rows of all saves are the table; the runs before are taken on."""
    kept = {path.parent.name for path in evolved.glob("chunks/*/runs.npz")}
    assert kept == {"stage2_program0_chunk0"}
    table = table_of(evolved)
    np.testing.assert_array_equal(table["iteration"], np.tile(np.arange(6), 4))


@pytest.mark.slow
def test_members_continue_the_best_with_their_values_moved(evolved):
    """What the table says of every exchange is what the numbers after it show."""
    table = table_of(evolved)
    columns = ("episode_return", "parent", "hparams/learning_rate", "learning_rate")
    returns, parent, rate, used = (
        table[name].reshape(4, ITERATIONS) for name in columns
    )
    np.testing.assert_array_equal(rate, used)
    exchanges = 0
    for iteration in range(ITERATIONS - 1):
        for member in range(4):
            chosen = parent[member, iteration]
            now, then = rate[member, iteration + 1], rate[chosen, iteration]
            if chosen == member:
                assert now == then
                continue
            exchanges += 1
            assert iteration in (1, 3), "it was not time"
            assert returns[chosen, iteration] > returns[member, iteration]
            allowed = np.clip(np.array([0.8, 1.25]) * then, 1e-4, 1e-2)
            assert np.isclose(now, allowed, rtol=1e-5).any()
    assert exchanges == 4, "two of four, twice"
    assert (parent[:, -1] == np.arange(4)).all(), "nobody moves after the last"


@pytest.mark.slow
def test_an_exported_member_has_the_values_that_it_has_come_to(evolved, capsys):
    """An ordinary run: played, and trained on at the rate of the last iteration."""
    rate = table_of(evolved)["hparams/learning_rate"].reshape(4, ITERATIONS)
    assert running.call(script, "--export=2", f"--sweep={evolved}") == 0
    run = max((folders.LOG_ROOT / "Cartpole").iterdir())
    config = load(run / folders.CONFIG_FILE)
    assert np.float32(config.algorithm.learning_rate) == np.float32(rate[2, -1])
    assert (config.num_envs, config.seed) == (8, 5)
    assert checkpoint.iterations(run) == [ITERATIONS]
    table = metrics.read_table(run)
    np.testing.assert_allclose(table["hparams/learning_rate"], rate[2], rtol=1e-6)
    assert running.call(play, f"--checkpoint={run}", "--num_envs=8") == 0
    more = ("--resume", f"--checkpoint={run}", f"--max_iterations={ITERATIONS + 2}")
    assert running.call(train, *more) == 0
    capsys.readouterr()
    table = metrics.read_table(run)
    assert table["iteration"] == list(range(ITERATIONS + 2))
    np.testing.assert_allclose(table["learning_rate"][-1], rate[2, -1], rtol=1e-6)


@pytest.mark.slow
def test_the_table_names_members_as_the_sweep_counts_them(home):
    """Two populations of two: nobody continues a member of the other one."""
    argv = ("--population=2", "--num_envs=16", "save_interval=3", *PBT)
    table = table_of(run_sweep("pairs", *argv))
    parent, member = table["parent"], table["member"]
    assert (parent != member).any()
    np.testing.assert_array_equal(parent // 2, member // 2)


@pytest.mark.slow
def test_what_becomes_of_the_members_is_drawn(evolved):
    """Returns and rates over time, in place of the response to where they began."""
    pixels = matplotlib.image.imread(evolved / pictures.EVOLUTION)
    assert pixels.shape[0] > 300
    assert pixels.std() > 0.05
    assert not (evolved / pictures.RESPONSE).exists()


@pytest.mark.slow
def test_a_population_killed_twice_ends_as_the_undisturbed_one(evolved, tmp_path):
    """SIGKILL with half a save written: byte for byte the same table."""
    argv = (*TINY, *RATES, *FOUR, *PBT)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    sweep_process(tmp_path / "whole", *argv)
    kill_at("stage0_program0_chunk0", tmp_path / "killed", *argv)
    kill_at("stage2_program0_chunk0", tmp_path / "killed", "--resume")
    sweep_process(tmp_path / "killed", "--resume")
    whole, killed = (
        next((tmp_path / name / script.SWEEPS).iterdir())
        for name in ("whole", "killed")
    )
    for name in ("table.parquet", "summary.csv"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    assert_same_table(table_of(whole), table_of(evolved))


@pytest.mark.slow
def test_a_plan_with_a_population_survives_its_manifest(evolved):
    plan = from_dict(json.loads((evolved / "manifest.json").read_text())["sweep"])
    assert from_dict(json.loads(json.dumps(to_dict(plan)))) == plan
    assert (plan.population, plan.base.num_envs) == (4, 8)
    bounds = (("learning_rate", 1e-4, 1e-2),)
    assert plan.pbt == PBTConfig(bounds, 2, 0.5)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--population=3", "--seeds=3", "--num_envs=8"), "num_envs = 8 cannot be"),
        (("--population=4", "--seeds=6"), "cannot be filled with 6 members"),
        (("--pbt",), "--pbt needs members to compare"),
        (("--pbt", "--population=1"), "--pbt needs members to compare"),
        (("--quantile_fraction=0.5",), "--quantile_fraction is for --pbt"),
        (("--population=2", "--pbt", "--quantile_fraction=0.7"), "up to 0.5"),
        (("--population=2", "--seeds=2", "--chunk_size=2"), "leave --chunk_size away"),
        (
            (
                *("--population=2", "--seeds=2", "--coordinator_address=a:1"),
                *("--num_processes=2", "--process_id=0"),
            ),
            "in one process",
        ),
        (("--population=2", "gamma=0.9,0.99", "--stop_bad=0.5"), "--stop_bad would"),
        (("--population=2", "--max_iterations=3,4"), "has one max_iterations for all"),
        (("--population=2", "--num_envs=8,16"), "has one num_envs for all"),
        (("--population=2", "clip_actions=1,2"), "has one clip_actions for all"),
        (
            ("--population=2", "--pbt", "learning_rate=1e-3,1e-2"),
            "learning_rate follows the KL",
        ),
        (("--population=2", "--pbt", "num_mini_batches=2,4"), "num_mini_batches"),
        (("--population=2", "--pbt", "optimizer=adam,sgd"), "give numbers"),
        (("save_interval=5",), "a sweep has no use for save_interval"),
        (("--task=Isaac-Cartpole-Direct", "--seeds=2"), "give --population P"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_runs(home, argv, words, capsys):
    if any("Isaac" in word for word in argv):
        pytest.importorskip("isaaclab", reason="needs Isaac Lab")
    before = set(script.SWEEPS.glob("*"))
    assert running.call(script, *argv) == entry.USAGE_ERROR
    assert words in capsys.readouterr().err
    assert set(script.SWEEPS.glob("*")) == before
