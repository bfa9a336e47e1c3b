"""Sweeps: what is planned, what runs side by side, and what is left when it is over."""

import csv
import json
import math
import os
import shutil
from types import SimpleNamespace

import careless
import jax
import numpy as np
import pytest
import running
from sweeping import (
    assert_same_table,
    kill_at,
    sweep_process,
    table_of,
)

from ppo_jax.cli import command_line, play, tasks, train
from ppo_jax.cli import sweep as script
from ppo_jax.configs import config_for
from ppo_jax.loops import episodes, population
from ppo_jax.runs import checkpoint, folders, metrics, trainers
from ppo_jax.runs.config_fields import override
from ppo_jax.sweeps import (
    axes,
    compiling,
    files,
    pictures,
    planning,
    programs,
    ranking,
    settings,
)
from ppo_jax.sweeps.axes import Grid, Range
from ppo_jax.sweeps.ranking import Final

ITERATIONS = 4
SETTINGS = (  # 64 steps, so that episodes end in the first iteration
    *(word for word in running.TINY if "steps" not in word),
    *(f"--max_iterations={ITERATIONS}", "num_steps_per_env=64", "--seed=5"),
)
AXES = ("learning_rate=1e-3,1e-2", "gamma=0.9,0.99", "--seeds=3")


@pytest.fixture(scope="module")
def swept(home):
    """The folder of a sweep of 4 settings x 3 seeds, in one chunk."""
    return run_sweep(*AXES)


def run_sweep(*argv, name="sweep"):
    """Sweeps in this process; returns the folder, which is then not the newest."""
    assert running.call(script, *SETTINGS, *argv, f"--name={name}") == 0
    (folder,) = script.SWEEPS.glob(f"*_{name}")
    return folder


def plan_of(*words, **options):
    """Returns a plan for Cartpole from words such as "gamma=0.9,0.99"."""
    axes = dict(word.split("=", 1) for word in words)
    paths = {command_line.find_path(name): text for name, text in axes.items()}
    return settings.make_sweep(config_for("Cartpole"), paths, **options)


# --- axes


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1", ["1"]),
        ("1,2", ["1", "2"]),
        ("[1,2],[3]", ["[1,2]", "[3]"]),
        ("{'a':['b','c']},{}", ["{'a':['b','c']}", "{}"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ("((1,2),3),4", ["((1,2),3)", "4"]),
        ("1,", ["1", ""]),
    ],
)
def test_values_are_split_at_commas_outside_of_brackets_and_quotes(text, parts):
    assert list(axes.split(text)) == parts


@pytest.mark.parametrize(
    ("path", "text", "axis"),
    [
        ("algorithm.gamma", "0.9, 0.99", Grid("algorithm.gamma", ("0.9", "0.99"))),
        ("actor.hidden_dims", "[8],[9]", Grid("actor.hidden_dims", ("[8]", "[9]"))),
        ("algorithm.lam", "uniform(0,1)", Range("algorithm.lam", "uniform", 0.0, 1.0)),
        (
            "algorithm.learning_rate",
            "log(1e-4, 1e-2)",
            Range("algorithm.learning_rate", "log", 1e-4, 1e-2),
        ),
    ],
)
def test_an_axis_is_a_list_or_a_range(path, text, axis):
    assert axes.parse_axis(path, text) == axis


def test_settings_are_all_combinations_and_one_value_is_no_axis():
    """2 x 2 settings, the last axis runs fastest; num_envs is set, not swept."""
    plan = plan_of("lam=0.8,0.9", "num_envs=64", "actor.hidden_dims=[8],[8,8]")
    assert plan.base.num_envs == 64
    assert plan.swept == ("algorithm.lam", "actor.hidden_dims")
    assert [tuple(setting.values()) for setting in plan.settings] == [
        (0.8, [8]),
        (0.8, [8, 8]),
        (0.9, [8]),
        (0.9, [8, 8]),
    ]
    assert planning.config_of(plan, 3, seed=7).actor.hidden_dims == (8, 8)
    assert planning.config_of(plan, 3, seed=7).seed == 7


def test_draws_lie_in_their_ranges_and_go_with_every_combination():
    """Half of a logarithmic range lies below its geometric mean."""
    axes = ("learning_rate=log(1e-4,1e-2)", "gamma=uniform(0.9,0.95)", "lam=0.8,0.9")
    plan = plan_of(*axes, samples=200)
    rates, gammas, lams = (
        np.array([setting[f"algorithm.{name}"] for setting in plan.settings])
        for name in ("learning_rate", "gamma", "lam")
    )
    assert len(rates) == 400
    assert 1e-4 <= rates.min() < 1.2e-4
    assert 0.8e-2 < rates.max() <= 1e-2
    assert 0.4 < (rates < 1e-3).mean() < 0.6
    assert 0.4 < (gammas < 0.925).mean() < 0.6
    for values in (rates, gammas):
        np.testing.assert_array_equal(values[lams == 0.8], values[lams == 0.9])


def test_draws_are_a_function_of_the_seed_and_more_begin_with_the_same():
    ranges = [Range("a", "log", 1.0, 2.0), Range("b", "uniform", 0.0, 1.0)]
    assert axes.draw(ranges, 3, seed=1) == axes.draw(ranges, 9, seed=1)[:3]
    assert axes.draw(ranges, 3, seed=1) != axes.draw(ranges, 3, seed=2)


def test_members_are_settings_times_seeds():
    plan = plan_of("gamma=0.9,0.99", num_seeds=2)
    assert planning.members_of(plan, [0, 1]) == [
        (0, 0, 42),
        (1, 0, 43),
        (2, 1, 42),
        (3, 1, 43),
    ]


@pytest.mark.parametrize(
    ("words", "programs"),
    [
        (["learning_rate=1e-3,1e-2", "gamma=0.9,0.99", "desired_kl=0.01,0.1"], 1),
        (["gamma=0.9,0.99", "num_mini_batches=2,4"], 2),
        (["actor.hidden_dims=[8],[9]", "num_steps_per_env=4,8", "lam=0,1"], 4),
        (["desired_kl=none,0.01,0.02"], 2),  # without one the schedule is fixed
    ],
)
def test_only_what_fixes_shapes_or_control_flow_makes_a_program(words, programs):
    plan = plan_of(*words)
    groups = planning.programs_of(plan)
    assert len(groups) == programs
    everything = sorted(setting for group in groups for setting in group.settings)
    assert everything == list(range(len(plan.settings)))


def test_a_plan_survives_its_manifest():
    plan = plan_of("actor.hidden_dims=[8],[8,8]", "desired_kl=none,0.01", num_seeds=2)
    again = planning.from_dict(json.loads(json.dumps(planning.to_dict(plan))))
    assert again == plan


# --- cutting


# As few chunks as fit, of nearly equal size: 12 in chunks of at most 5 are 3 x 4.
@pytest.mark.parametrize(
    ("members", "limit", "rows"), [(12, 12, 12), (12, 5, 4), (10, 9, 5), (3, 99, 3)]
)
def test_chunks_are_few_and_equal(members, limit, rows):
    assert planning.chunk_rows(members, limit) == rows


@pytest.mark.parametrize(
    ("free", "devices", "rows"),
    [
        (1000, 1, 10),
        (999, 1, 5),
        (450, 1, 4),
        (100, 1, 1),
        (399, 2, 5),
        (301, 4, 10),
        (299, 4, 5),
    ],
)
def test_members_that_do_not_fit_the_memory_come_one_chunk_after_another(
    monkeypatch, free, devices, rows
):
    """10 members of 100 bytes; on several devices each holds its part of a chunk."""
    monkeypatch.setattr(compiling, "free_bytes", lambda mesh: free)
    monkeypatch.setattr(compiling, "compile_population", compile_to(100))
    made = compiling.compile_what_fits(on_devices(devices), 10)
    assert made.num_bytes <= free
    assert made.size == -(-rows // devices) * devices


def test_a_member_that_does_not_fit_alone_is_said(monkeypatch):
    monkeypatch.setattr(compiling, "free_bytes", lambda mesh: 2**29)
    monkeypatch.setattr(compiling, "compile_population", compile_to(2**30))
    with pytest.raises(ValueError, match=r"needs 1 GiB, and 0\.5 GiB are free"):
        compiling.compile_what_fits(on_devices(2), 10)


def on_devices(number):
    mesh = SimpleNamespace(size=number)
    return population.Population(mesh, 1, None, None)


def compile_to(num_bytes):
    """Returns a compiler of programs that take this much for each member."""

    def compile_population(functions, num_members):
        per_device = -(-num_members // functions.mesh.size)
        return compiling.Compiled(
            size=per_device * functions.mesh.size,
            num_bytes=per_device * num_bytes,
            num_iterations=1,
            sharding=None,
            run=None,
            init=None,
            advance=None,
        )

    return compile_population


@pytest.mark.slow
def test_the_memory_of_a_program_holds_its_runs_and_more(swept):
    """At least what all members keep, and less than a hundred times that."""
    plan = plan_in(swept)
    (program,) = planning.programs_of(plan)
    functions = programs.population_of(plan, program, tasks.make_env)
    made = compiling.compile_population(functions, 12)
    kept = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(made.run))
    assert kept < made.num_bytes < 100 * kept


def test_free_memory_is_a_part_of_what_the_system_has_available():
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()[:1]), ("member",))
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 2**26 < compiling.free_bytes(mesh) < total


# --- running


@pytest.mark.slow
def test_a_row_is_the_run_alone(swept):
    """Every metric of every iteration, and all that was learned, to 1e-5."""
    table, plan = table_of(swept), plan_in(swept)
    for member in (0, 7):
        row = planning.members_of(plan, range(4))[member]
        config = planning.config_of(plan, row.setting, row.seed)
        run, history = lone_run(config)
        mine = table["member"] == member
        assert set(table["seed"][mine]) == {row.seed}
        for name, values in history.items():
            np.testing.assert_allclose(
                table[name][mine], values, 1e-4, 1e-5, err_msg=name
            )
        ended = files.load_runs(swept, None, [member], run)
        for x, y in zip(jax.tree.leaves(ended), jax.tree.leaves(run), strict=True):
            if jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
                x, y = jax.random.key_data(x), jax.random.key_data(y)
            np.testing.assert_allclose(x[0], y, 1e-4, 1e-5)


def plan_in(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    return planning.from_dict(manifest["sweep"])


def lone_run(config):
    """Returns the run of a configuration at its end, and its metrics [I]."""
    trainer = tasks.make_trainer(config)
    key, step = jax.random.key(config.seed), trainers.lower(trainer).compile()
    run, history = trainer.init.lower(key).compile()(key), []
    for _ in range(config.max_iterations):
        run, values = step(run, trainer.hparams)
        history.append(episodes.with_gaps(values))
    names = [name for name in history[0] if not name.startswith("nonfinite/")]
    return run, {name: np.array([x[name] for x in history]) for name in names}


@pytest.mark.slow
def test_the_table_has_a_row_per_member_and_iteration(swept):
    """12 members x 4 iterations; 8 environments x 64 steps; nothing else varies."""
    table = table_of(swept)
    np.testing.assert_array_equal(table["member"], np.repeat(np.arange(12), 4))
    np.testing.assert_array_equal(table["setting"], table["member"] // 3)
    np.testing.assert_array_equal(table["seed"], 5 + table["member"] % 3)
    np.testing.assert_array_equal(table["iteration"], np.tile(np.arange(4), 12))
    np.testing.assert_array_equal(table["env_steps"], 512 * (table["iteration"] + 1))
    rates = np.where(table["setting"] < 2, 1e-3, 1e-2)
    np.testing.assert_array_equal(table["algorithm.learning_rate"], rates)
    gammas = np.where(table["setting"] % 2, 0.99, 0.9)
    np.testing.assert_array_equal(table["algorithm.gamma"], gammas)
    assert table["finite"].all()
    assert len(np.unique(table["value_loss"])) == 48


@pytest.mark.slow
def test_chunks_give_the_table_of_one_chunk_and_one_program_serves_them_all(
    swept, monkeypatch
):
    """At most 5 of 12 members at a time are 3 chunks of 4."""
    sizes = count_compilations(monkeypatch)
    folder = run_sweep(*AXES, "--chunk_size=5", name="chunked")
    assert len(list((folder / "chunks").iterdir())) == 3
    assert sizes == [4]
    assert_same_table(table_of(folder), table_of(swept))


@pytest.mark.slow
def test_every_distinct_program_is_compiled_once(home, monkeypatch):
    """2 minibatch counts x 2 rates x 2 seeds, in chunks of 2: 2 programs, 4 chunks."""
    sizes = count_compilations(monkeypatch)
    axes = ("num_mini_batches=2,4", "learning_rate=1e-3,1e-2", "--seeds=2")
    settings = [word for word in running.TINY if "mini" not in word]
    call = ("--max_iterations=2", *axes, "--chunk_size=2", "--name=programs")
    assert running.call(script, *settings, *call) == 0
    (folder,) = script.SWEEPS.glob("*_programs")
    assert sizes == [2, 2]
    assert len(list((folder / "chunks").iterdir())) == 4
    table = table_of(folder)
    np.testing.assert_array_equal(
        table["algorithm.num_mini_batches"], np.where(table["setting"] < 2, 2, 4)
    )


def count_compilations(monkeypatch):
    """Returns a list that the size of every compiled population is added to."""
    sizes, compile_population = [], compiling.compile_population

    def counted(functions, num_members):
        sizes.append(num_members)
        return compile_population(functions, num_members)

    monkeypatch.setattr(compiling, "compile_population", counted)
    return sizes


@pytest.mark.slow
def test_members_spread_over_eight_devices_are_the_same_members(swept, tmp_path):
    """12 members on 8 devices: 4 places are filled up, and nothing of them is left."""
    flags = f"{careless.FLAGS} --xla_force_host_platform_device_count=8"
    argv = (*SETTINGS, *AXES, "--name=spread")
    out = sweep_process(tmp_path, *argv, XLA_FLAGS=flags)
    assert "1 chunk of 12 members on 8 devices" in out
    (folder,) = (tmp_path / script.SWEEPS).iterdir()
    assert_same_table(table_of(folder), table_of(swept))


HALVING = (*SETTINGS, *AXES, "--chunk_size=6", "--stop_bad=0.5")


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    """The folder of a sweep that stops half of the settings after each stage."""
    home = tmp_path_factory.mktemp("halved")
    sweep_process(home, *HALVING)
    (folder,) = (home / script.SWEEPS).iterdir()
    return folder


@pytest.mark.slow
def test_a_sweep_killed_twice_goes_on_and_ends_as_the_undisturbed_one(tmp_path, halved):
    """SIGKILL with half a chunk written: byte for byte the same tables at the end.

    Once with one chunk of two of the first stage, once after two decisions.
    """
    kill_at("stage0_program0_chunk1", tmp_path, *HALVING)
    (folder,) = (tmp_path / script.SWEEPS).iterdir()
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("chunks/s*/*")}
    assert {path.parent.name for path in finished} == {"stage0_program0_chunk0"}
    assert "Resuming" in kill_at("stage2_program0_chunk0", tmp_path, "--resume")
    assert "Resuming" in sweep_process(tmp_path, "--resume")
    again = {path: path.stat().st_mtime_ns for path in finished}
    assert again == finished, "what was finished was run once more"
    for name in ("table.parquet", "summary.csv"):
        ours, theirs = folder / name, halved / name
        assert ours.read_bytes() == theirs.read_bytes(), name


@pytest.mark.slow
def test_stopping_keeps_the_best_settings_and_ends_the_tables_of_others(halved):
    """4 settings, half of them stopped after each stage: 4, 2, 1, 1 in iterations."""
    table = table_of(halved)
    lengths = {}
    for setting in range(4):
        mine = table["setting"] == setting
        counts = np.unique(table["member"][mine], return_counts=True)[1]
        (lengths[setting],) = set(counts.tolist())
    assert sorted(lengths.values()) == [1, 1, 2, 4]
    for stage, kept in enumerate([2, 1]):
        at = table["iteration"] == stage
        racing = [setting for setting in range(4) if lengths[setting] > stage]
        means = {
            s: np.nanmean(table["episode_return"][at & (table["setting"] == s)])
            for s in racing
        }
        best = sorted(racing, key=means.get, reverse=True)[:kept]
        assert {s for s in racing if lengths[s] > stage + 1} == set(best)
    with (halved / "summary.csv").open() as file:
        ranked = [int(row["iterations"]) for row in csv.DictReader(file)]
    assert ranked == [4, 2, 1, 1]


@pytest.mark.slow
def test_a_stopped_sweep_is_the_beginning_of_the_whole_one(swept, halved):
    """The stages change where members stand in a program, and nothing else."""
    short, whole = table_of(halved), table_of(swept)
    index = whole["member"] * ITERATIONS + whole["iteration"]
    rows = np.isin(index, short["member"] * ITERATIONS + short["iteration"])
    assert_same_table(short, {name: column[rows] for name, column in whole.items()})


# Fifths of 12 are 3; of 150, 30. Blocks are as long as divides them, at most 10.
@pytest.mark.parametrize(
    ("iterations", "stop_bad", "ends", "block"),
    [
        (12, 0.5, [3, 6, 9, 12], 3),
        (150, 0.5, [30, 60, 90, 120, 150], 10),
        (3, 0.5, [1, 2, 3], 1),
        (150, 0.0, [150], 10),
        (13, 0.0, [13], 1),
        (11, 0.5, [3, 6, 9, 11], 1),
    ],
)
def test_stages_and_blocks(iterations, stop_bad, ends, block):
    config = override(config_for("Cartpole"), {"max_iterations": iterations})
    plan = planning.Sweep(config, (), ({},), 1, stop_bad)
    assert planning.stage_ends(plan, config) == ends
    assert planning.block_length(plan, config) == block


@pytest.mark.parametrize(
    ("settings", "fraction", "kept"),
    [(4, 0.5, 2), (5, 0.5, 3), (1, 0.9, 1), (3, 0.99, 1), (3, 0.1, 3)],
)
def test_a_fraction_is_stopped_but_never_all(settings, fraction, kept):
    assert planning.num_kept(settings, fraction) == kept


@pytest.mark.slow
def test_a_member_that_diverges_harms_no_other(home, capsys):
    """A rate of 1e30 ends in NaN, is ranked last, named, and cannot be exported."""
    axes = ("learning_rate=1e30,1e-3", "schedule=fixed", "--seeds=1")
    folder = run_sweep(*axes, name="diverged")
    assert "learning_rate=1e+30 seed=5) became NaN or infinite in" in (
        capsys.readouterr().out
    )
    table = table_of(folder)
    fine = table["member"] == 1
    assert table["finite"][fine].all()
    assert not table["finite"][~fine].all()
    with (folder / "summary.csv").open() as file:
        first, last = csv.DictReader(file)
    assert (first["setting"], first["failed"]) == ("1", "0")
    assert (last["setting"], last["failed"]) == ("0", "1")
    assert running.call(script, "--export=0", f"--sweep={folder}") == 2
    assert "--export 0: it became NaN or infinite" in capsys.readouterr().err


# --- results


def test_final_return_is_the_mean_of_the_last_tenth():
    """Of 20 iterations the last 2; of 4 the last; NaN where no episode ended."""
    assert ranking.final_return(np.arange(20.0)) == 18.5
    assert ranking.final_return(np.array([5.0, 1.0, 2.0, 3.0])) == 3.0
    assert math.isnan(ranking.final_return(np.array([np.nan])))


def test_interquartile_mean_and_its_interval():
    """Of 1, 2, 3, 100 the middle is 2.5; equal numbers are sure; one says nothing."""
    numbers = ranking.interquartile([1.0, 100.0, 2.0, 3.0])
    assert numbers["iqm"] == 2.5
    assert 1.0 <= numbers["iqm_low"] < 2.5 < numbers["iqm_high"] <= 100.0
    equal = ranking.interquartile([7.0] * 5)
    assert equal == {"iqm": 7.0, "iqm_low": 7.0, "iqm_high": 7.0}
    alone = ranking.interquartile([7.0])
    assert alone["iqm"] == 7.0
    assert math.isnan(alone["iqm_low"])


def test_the_interval_covers_the_mean_of_a_normal_sample_about_95_times_in_100(
    monkeypatch,
):
    """Of 60 samples of 16, at least 50 (fewer would be a chance of 1e-3)."""
    monkeypatch.setattr(ranking, "NUM_RESAMPLES", 500)
    rng = np.random.default_rng(1)
    samples = [ranking.interquartile(rng.normal(3.0, 1.0, 16)) for _ in range(60)]
    covered = sum(x["iqm_low"] <= 3.0 <= x["iqm_high"] for x in samples)
    assert 50 <= covered < 60


def final(setting, value, failed_at=None):
    return Final(0, setting, 0, 10, value, failed_at)


def test_rank_puts_failures_last_and_what_never_ended_before_them():
    """Means 2 and 3; setting 2 ended no episode; one seed of 3 failed."""
    ended = [
        *(final(0, 1.0), final(0, 3.0), final(1, 2.0), final(1, 4.0)),
        *(final(2, math.nan), final(3, 99.0), final(3, 99.0, failed_at=5)),
    ]
    ranked = ranking.rank(ended, [0, 1, 2, 3])
    assert [score.setting for score in ranked] == [1, 0, 2, 3]
    assert ranked[0].final_return == 3.0
    assert ranked[3].failed == 1


@pytest.mark.slow
def test_the_summary_is_ranked_by_final_return(swept):
    with (swept / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = table_of(swept)
    last = table["iteration"] == ITERATIONS - 1
    returns = [float(row["final_return"]) for row in rows]
    assert returns == sorted(returns, reverse=True)
    for row in rows:
        mine = table["episode_return"][last & (table["setting"] == int(row["setting"]))]
        np.testing.assert_allclose(float(row["final_return"]), mine.mean(), 1e-5)
        assert float(row["iqm_low"]) <= float(row["iqm"]) <= float(row["iqm_high"])


@pytest.mark.slow
def test_pictures_are_drawn(swept):
    """Curves and response are pictures with something in them."""
    import matplotlib.image

    for name in (pictures.SWEEP_CURVES, pictures.RESPONSE):
        pixels = matplotlib.image.imread(swept / name)
        assert pixels.shape[0] > 300
        assert pixels.std() > 0.05


@pytest.mark.slow
def test_an_exported_member_plays_and_trains_on(swept, capsys):
    """As any run does: its curves go on, its best is what the sweep found."""
    assert running.call(script, "--export=best", f"--sweep={swept}") == 0
    (folder,) = (folders.LOG_ROOT / "Cartpole").glob("*_member_*")
    number = int(folder.name.rpartition("_")[2])
    table = table_of(swept)
    last = table["iteration"] == ITERATIONS - 1
    assert number == table["member"][last][table["episode_return"][last].argmax()]
    returns = table["episode_return"][table["member"] == number]
    np.testing.assert_allclose(metrics.read_table(folder)["episode_return"], returns)
    assert checkpoint.iterations(folder) == [ITERATIONS]

    capsys.readouterr()
    assert running.call(play, f"--checkpoint={folder}", "--num_envs=4") == 0
    assert f"Playing {folder} at iteration 4." in capsys.readouterr().out
    config = folders.load_config(folder)
    longer = override(config, {"max_iterations": 6})
    more = ("--resume", f"--checkpoint={folder}", "--max_iterations=6")
    assert running.call(train, *more) == 0
    assert metrics.read_table(folder)["iteration"] == list(range(6))
    wanted = lone_run(longer)[1]["episode_return"]
    ours = metrics.read_table(folder)["episode_return"]
    np.testing.assert_allclose(ours, wanted, 1e-4)
    shutil.rmtree(folder)
