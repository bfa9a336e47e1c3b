"""The command line: what it understands, what it shows, and where things go."""

import io
import re
import time
from pathlib import Path

import pytest
import running
from rich.console import Console

from ppo_jax.cli import command_line, console, entry, play, sweep, tasks, train
from ppo_jax.runs import checkpoint, config_fields, folders, trainers
from ppo_jax.runs.callbacks import Progress
from ppo_jax.runs.config import Config

FLAGS = [
    command_line.field_flag("num_envs", "N"),
    command_line.Flag("resume", None, "go on"),
    command_line.Flag("checkpoint", "PATH", "a run"),
]


@pytest.mark.parametrize(
    ("line", "flags", "overrides"),
    [
        ("", {}, {}),
        ("--num_envs 5 --resume", {"num_envs": "5", "resume": True}, {}),
        ("--num_envs=5", {"num_envs": "5"}, {}),
        ("--num-envs 5", {"num_envs": "5"}, {}),
        ("num_envs=5", {"num_envs": "5"}, {}),
        ("agent.num_envs=5", {"num_envs": "5"}, {}),
        ("--num_envs -5", {"num_envs": "-5"}, {}),
        ("--checkpoint a=b", {"checkpoint": "a=b"}, {}),
        ("--gamma 0.9", {}, {"algorithm.gamma": "0.9"}),
        ("--gamma=0.9", {}, {"algorithm.gamma": "0.9"}),
        ("gamma=0.9", {}, {"algorithm.gamma": "0.9"}),
        ("algorithm.gamma=0.9", {}, {"algorithm.gamma": "0.9"}),
        ("agent.algorithm.gamma=0.9", {}, {"algorithm.gamma": "0.9"}),
        ("--agent.algorithm.gamma 0.9", {}, {"algorithm.gamma": "0.9"}),
        ("--gamma 0.9 gamma=0.9", {}, {"algorithm.gamma": "0.9"}),  # no contradiction
        ("obs_groups={'actor':['a']}", {}, {"obs_groups": "{'actor':['a']}"}),
    ],
)
def test_spellings_of_an_option(line, flags, overrides):
    """Every spelling means the same; dashes are underscores, `=` may be in a value."""
    assert command_line.parse(line.split(), FLAGS) == command_line.Arguments(
        flags, overrides, []
    )


def test_help_is_h():
    """-h is --help."""
    flags = [command_line.Flag("help", None, "show this")]
    assert command_line.parse(["-h"], flags).flags == {"help": True}


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("script", [train, play, sweep])
def test_help_is_complete_and_fits(capsys, monkeypatch, script, width):
    """Every flag, every field with its default, and no line that breaks."""
    monkeypatch.setenv("COLUMNS", str(width))
    assert running.call(script, "--help") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [line for line in out.splitlines() if len(line) > width] == []
    names = [config_fields.short_name(flag.name) for flag in script.FLAGS]
    assert all(f"--{name} " in out for name in names)
    assert all(example in out for example in script.EXAMPLES)
    fields = [path for path, _ in config_fields.fields_of(Config())]
    flags = {flag.name for flag in script.FLAGS}
    shown = [f"  {config_fields.short_name(path)}=" in out for path in fields]
    wanted = [script is not play and path not in flags for path in fields]
    assert shown == wanted


def test_help_shows_the_defaults_of_the_task(capsys):
    """--help --task X shows what X is trained with; a shown value can be typed."""
    assert running.call(train, "--help", "--task", "Franka-Lift") == 0
    out, _ = capsys.readouterr()
    assert "configuration of Franka-Lift" in out
    assert "actor.hidden_dims=[256,128,64]" in out
    assert "learning_rate=0.0001" in out
    assert "(4096)" in out
    shown = re.findall(r"^  (\S+=\S+)", out, re.MULTILINE)
    arguments = command_line.parse(shown, train.FLAGS)
    from ppo_jax.configs import config_for

    config_of_task = config_for("Franka-Lift")
    assert config_fields.override(config_of_task, arguments.overrides) == config_of_task


def test_list_names_every_task(capsys):
    """--list: the tasks with a line each, and the adapters."""
    from ppo_jax.envs import ADAPTERS, TASKS

    assert running.call(train, "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    expected = [*TASKS, *(f"{prefix}:NAME" for prefix in ADAPTERS)]
    assert names[: len(expected)] == expected
    assert all(len(line.split()) > 3 for line in lines[: len(expected)])
    assert any(name.startswith("Isaac") for name in names[len(expected) :])


LAZY = """
import sys, train
for option in ("--help", "--list"):
    sys.argv = ["train.py", option]
    train.main()
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
heavy = {"orbax", "tensorboardX", "matplotlib", "imageio", "torch", "brax", "gymnax"}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
"""


@pytest.mark.slow
def test_help_and_list_start_nothing(tmp_path):
    """They answer without a device, and import nothing that only training needs."""
    code, out, err = running.finish(running.start(tmp_path, code=LAZY, fresh=True))
    assert (code, err) == (0, "")
    assert "Franka-Lift" in out


def test_a_reader_that_leaves_is_no_error(tmp_path):
    """`train.py --help | head` ends without a traceback."""
    script = str(running.ROOT / "train.py")
    process = running.start(tmp_path, script, "--help", fresh=True)
    process.stdout.close()
    process.stdout = None
    assert running.finish(process)[2] == ""


def test_traceback_for_developers(monkeypatch):
    """PPO_JAX_TRACEBACK shows where an error came from."""
    monkeypatch.setenv("PPO_JAX_TRACEBACK", "1")
    monkeypatch.setattr("sys.argv", ["train.py", "--gama=1"])
    with pytest.raises(ValueError, match="did you mean 'gamma'"):
        entry.run_script(train.main)


def progress(iteration=3, **scalars):
    known = {"steps_per_second": 12345.6, "iteration_time": 0.5}
    return Progress(iteration, 10, 48, 1.5, 3.5, known | scalars)


def test_progress_is_described():
    """What is shown of an iteration; what is not known yet is a dash."""
    shown = console.describe(progress(episode_return=1.234, kl=0.012345))
    assert shown["iteration"] == "3/10"
    assert shown["steps/s"] == "12,346"
    assert shown["return"] == "1.23"
    assert shown["kl"] == "0.0123"
    assert shown["eta"] == "0:00:04"
    assert console.describe(progress(episode_return=float("nan")))["return"] == "-"
    assert shown["entropy"] == "-"


def test_lines_where_there_is_no_terminal(capsys, monkeypatch):
    """A line at once, then one in two seconds, and one for the last iteration."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    display = console.open_display()
    with display.context:
        for iteration in range(1, 11):
            display.show(progress(iteration))
            now[0] += 0.5
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["1/10", "5/10", "9/10", "10/10"]
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("width", [80, 120])
def test_panel_on_a_terminal(width):
    """A box that fits, with the numbers, the bar, and what the task reports."""
    out = io.StringIO()
    terminal = Console(file=out, force_terminal=True, width=width, color_system=None)
    display = console._live_panel(terminal)
    reported = {"log/Episode_Reward/reaching_object": 0.123, "log/Metrics/[odd]": 1.0}
    with display.context:
        display.note("a note [with brackets]")
        display.show(progress(episode_return=4.5, **reported))
    text = out.getvalue()
    assert "a note [with brackets]" in text
    for word in ("3/10", "eta 0:00:04", "4.50", "12,346", "━", "[odd]", "╭", "0.123"):
        assert word in text
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).splitlines()
    assert max(map(len, lines)) <= width


@pytest.mark.slow
def test_a_run_ends_with_its_result_and_where_to_look(tmp_path, monkeypatch, capsys):
    """The last lines: result, files that exist, and commands that can be typed."""
    monkeypatch.chdir(tmp_path)
    argv = ("--max_iterations=40", "--run_name=first", "solved_return=-100")
    assert running.call(train, *running.TINY, *argv) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("Cartpole: 8 environments x 4 steps, 40 iterations")
    assert re.fullmatch(r"compiled in \d+\.\d s", lines[1])
    assert re.fullmatch(
        r"Mean return of the last 100 episodes: -?\d+\.\d\d\. "
        r"Solved: -100 at iteration \d+\.",
        lines[-1],
    )
    named = dict(re.findall(r"^  (\w[\w ]+\w) {2,}(.*)", out, re.MULTILINE))
    (run,) = (tmp_path / "logs" / "ppo_jax" / "Cartpole").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_first", run.name)
    assert named["run"] == str(run.relative_to(tmp_path))
    for name in ("run", "checkpoint", "learning curve"):
        assert (tmp_path / named[name]).exists()
    assert named["curves"] == "uv run tensorboard --logdir logs/ppo_jax/Cartpole"
    names = {path.name.partition(".tfevents")[0] for path in run.iterdir()}
    assert names == {
        *("checkpoints", "events.out", "learning_curve.png", "metrics.csv"),
        *("params", "report.html", "run.json", ".lock"),
    }
    assert named["watch it"].startswith("uv run play.py --checkpoint")
    words = [*named["watch it"].split()[3:5], "--num_envs=5"]
    assert running.call(play, *words) == 0
    assert "Return over 5 episodes" in capsys.readouterr().out


@pytest.mark.slow
def test_weights_of_another_run_start_a_new_one(tmp_path, monkeypatch, capsys):
    """--checkpoint without --resume: another folder, iteration 0, those weights."""
    monkeypatch.chdir(tmp_path)
    old = running.tiny_run()
    argv = ("--max_iterations=2", "--logger=none", "--seed=5", "learning_rate=1e-5")
    assert running.call(train, *running.TINY, *argv, f"--checkpoint={old}") == 0
    assert f"Starting from {old} at 2." in capsys.readouterr().out
    (new,) = (tmp_path / folders.LOG_ROOT / "Cartpole").iterdir()
    kernels = []
    for folder in (old, new):
        trainer = tasks.make_trainer(folders.load_config(folder))
        template = trainers.abstract_run(trainer).train
        state = checkpoint.restore_train(folder, template).state
        assert int(state.iteration) == 2
        kernels.append(state.params["actor"]["mlp"]["layer_0"]["kernel"])
    assert 0 < abs(kernels[0] - kernels[1]).max() < 1e-2  # from another seed: about 1


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({}, "{home}/.cache/ppo_jax/xla"),
        ({"XDG_CACHE_HOME": "/tmp/x"}, "/tmp/x/ppo_jax/xla"),
        ({"XDG_CACHE_HOME": ""}, "{home}/.cache/ppo_jax/xla"),
        ({"JAX_COMPILATION_CACHE_DIR": "/tmp/y"}, "/tmp/y"),
        ({"JAX_COMPILATION_CACHE_DIR": ""}, None),
    ],
)
def test_compilation_cache_is_where_caches_are(monkeypatch, environment, folder):
    """The user's cache folder, or what JAX's own variable says; empty: none."""
    import jax

    for name in ("XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    seen = {}
    monkeypatch.setattr(jax.config, "update", seen.__setitem__)
    entry.use_compilation_cache()
    expected = folder and folder.format(home=Path.home())
    assert seen.get("jax_compilation_cache_dir") == expected


@pytest.mark.parametrize(("given", "set_to"), [(None, 0.1), ("0", None)])
def test_which_programs_are_kept_is_said_by_jax_own_variable(
    monkeypatch, tmp_path, given, set_to
):
    """Those that took a tenth of a second, unless the variable says otherwise."""
    import jax

    name = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
    monkeypatch.delenv(name, raising=False)
    if given:
        monkeypatch.setenv(name, given)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    seen = {}
    monkeypatch.setattr(jax.config, "update", seen.__setitem__)
    entry.use_compilation_cache()
    assert seen.get(name.lower()) == set_to
