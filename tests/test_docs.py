"""What the pages promise: code runs, commands parse, links lead on, tables hold."""

import dataclasses
import importlib
import json
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest

import ppo_jax
from ppo_jax.cli import command_line, play, sweep, sweep_plan, teaching, train
from ppo_jax.configs import config_for
from ppo_jax.envs import SIMULATORS
from ppo_jax.policies.models import DistributionConfig, ModelConfig
from ppo_jax.rsl_rl import configurations, models
from ppo_jax.runs import students
from ppo_jax.runs.config import AlgorithmConfig, Config
from ppo_jax.runs.config_fields import override

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
MIGRATING = ROOT / "docs" / "migrating.md"
SCRIPTS = {"train.py": train.FLAGS, "play.py": play.FLAGS, "sweep.py": sweep.FLAGS}

# Of the configuration, what rsl_rl does not have.
OURS = {
    "shared_encoder_updates",
    "timeout_bootstrap",
    "reshuffle_each_epoch",
    *("normalize_advantage_per_device", "micro_batches", "devices"),
    "task",
    "num_envs",
}
OURS |= {"encoder_cfg", "layer_norm", "initialization", "hidden_gain", "output_gain"}
OURS |= {"solved_return", "keep_checkpoints", "simulator"}

NOT_RUN = r"(?:<!-- not run: (?P<reason>.*?) -->\n)?"
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def prose(page):
    """Returns a page without its code blocks."""
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


def code_in(text):
    """Returns every word that is set as code."""
    return set(re.findall(r"[\w.-]+", " ".join(re.findall(r"`([^`\n]+)`", text))))


def python_blocks():
    for page in PAGES:
        pattern = rf"{NOT_RUN}```python\n(?P<code>.*?)```"
        for index, match in enumerate(
            re.finditer(pattern, page.read_text(), re.DOTALL)
        ):
            reason = match["reason"]
            marks = [pytest.mark.skip(reason=reason)] if reason else []
            name = f"{page.name}-{index}"
            yield pytest.param(match["code"], id=name, marks=marks)


def commands():
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                yield shlex.split(line.split("&&")[-1], comments=True)


def script_commands():
    for words in commands():
        script = next((word for word in words if word in SCRIPTS), None)
        if words[:2] == ["uv", "run"] and script:
            given = words[words.index(script) + 1 :]
            yield pytest.param(script, given, id=shlex.join([script, *given]))


def links(page):
    """Yields the text and the target of every link that stays in the repository."""
    for text, target in re.findall(r"\[([^\]\n]*)\]\(([^)\s]+)\)", prose(page)):
        if "://" not in target:
            yield text, target


def anchors(page):
    """Returns what the headings of a page are called in addresses."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def rows(page, heading):
    """Returns the cells of the tables under a heading."""
    section = re.split(r"^## ", page.read_text(), flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(f"{heading}\n")]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("code", python_blocks())
def test_the_code_of_the_pages_runs(code, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "page", "exec"), {})
    assert capsys.readouterr().out.count("nan") == 0


@pytest.mark.parametrize(("script", "words"), script_commands())
def test_every_command_is_understood(script, words):
    task = command_line.peek(words, "task") or "Cartpole"
    is_simulated = task.startswith(("Isaac", *(f"{prefix}:" for prefix in SIMULATORS)))
    foreign = ("env.",) if is_simulated else ()
    words = command_line.with_tokens(words, foreign) if foreign else words
    arguments = command_line.parse(words, SCRIPTS[script], foreign=foreign)
    if ":" in task and not is_simulated:
        return  # somebody else's task
    if script == "train.py":
        config = Config(task=task) if is_simulated else config_for(task)
        if arguments.overrides.get(teaching.CLASS) == "Distillation":
            config = students.distillation_of(config)
        override(config, train.config_overrides(arguments))
    if script == "sweep.py" and not {"resume", "export"} & arguments.flags.keys():
        if is_simulated:
            pytest.skip("the plan needs the simulator")
        sweep_plan.make_plan(arguments)


def test_the_command_for_franka_lift_is_what_its_curve_was_drawn_with():
    config = config_for("Franka-Lift")
    page = (ROOT / "docs" / "tasks.md").read_text().replace("\\\n", " ")
    (words,) = re.findall(r"train\.py (--task Franka-Lift .*)", page)
    arguments = command_line.parse(shlex.split(words), train.FLAGS)
    curve = json.loads((ROOT / "docs/images/franka_lift_curve.json").read_text())
    drawn = override(config, curve["changes"])
    assert override(config, train.config_overrides(arguments)) == drawn
    for seed in curve["seeds"].values():
        assert len(seed["episode_return"]) == drawn.max_iterations
        assert seed["played Metrics/success_rate"] > 0.9, "a seed hovers"


def test_the_table_of_brax_tasks_is_what_its_runs_say(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    script = importlib.import_module("brax_tasks")
    page = (ROOT / "docs" / "tasks.md").read_text()
    table = script.table(script.kept())
    assert len(table) >= 2 + 3, "three tasks at least"
    assert "\n".join(["", *table, ""]) in page.split(script.HEADING)[1]
    for name, run in script.kept().items():
        task = script.TASKS[name.split()[0]]
        assert {k: run[k] for k in dataclasses.asdict(task)} == dataclasses.asdict(task)


def test_every_extra_and_group_that_a_command_names_is_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    known = {
        "--extra": project["project"]["optional-dependencies"],
        "--group": project["dependency-groups"],
    }
    for words in commands():
        for option, name in pairwise(words):
            assert name in known.get(option, {name}), words


@each_page
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page):
    missing = []
    for _, target in links(page):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        is_there = file.exists() and (not anchor or anchor in anchors(file))
        missing += [] if is_there else [target]
    assert not missing


@each_page
def test_every_name_that_leads_to_a_file_is_in_it(page):
    for text, target in links(page):
        name = text.strip("`")
        if text.startswith("`") and target.endswith(".py") and "/" not in name:
            path = (page.parent / target).resolve().relative_to(ROOT)
            module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
            in_package = "ppo_jax." if path.parts[0] in ("envs", "configs") else ""
            found = importlib.import_module(in_package + module)
            for part in name.split(".") if name != module else ():
                found = getattr(found, part)


def test_the_reference_has_every_public_name():
    documented = re.findall(r"auto\w+:: ppo_jax\.(\w+)$", api_text(), re.MULTILINE)
    assert set(documented) == set(ppo_jax.__all__)


def test_the_reference_names_what_is_there():
    for path in re.findall(r"auto\w+:: ([\w.]+)$", api_text(), re.MULTILINE):
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name), path


def api_text():
    return (ROOT / "docs" / "api.md").read_text()


@pytest.mark.parametrize("cls", [Config, ModelConfig, DistributionConfig])
def test_migrating_has_every_field(cls):
    named = code_in(prose(MIGRATING))
    fields = {field.name for field in dataclasses.fields(cls)}
    fields |= {field.name for field in dataclasses.fields(AlgorithmConfig)}
    assert not {name for name in fields - {"simulator"} if name not in named}


def test_migrating_calls_equal_what_both_have():
    equal = code_in(
        " ".join(cells[1] for cells in rows(MIGRATING, "Configuration")[:10])
    )
    for cls in (AlgorithmConfig, ModelConfig, DistributionConfig, Config):
        fields = {field.name for field in dataclasses.fields(cls)} - OURS
        assert fields - {"logger", "wandb_project", "upload_model"} <= equal
    assert not OURS & equal


def test_migrating_has_what_is_left_away_and_what_older_versions_had():
    text = prose(MIGRATING)
    (left_away,) = re.findall(r"Left away,.*?:(.*?)\.\n\n", text, re.DOTALL)
    assert code_in(left_away) == configurations.IGNORED - {"class_name"}
    named = {word.rpartition(".")[2] for word in code_in(text)}
    assert models.OLD_DISTRIBUTION.keys() <= named
    assert {"stochastic", "state_dependent_std", "empirical_normalization"} <= named


def refused():
    cells = [row[0].strip("`") for row in rows(MIGRATING, "Configuration")]
    return cells[cells.index("setting") + 2 :]  # after the head and its line


@pytest.mark.parametrize("setting", refused())
def test_what_migrating_calls_refused_is_refused(setting):
    actor = {"distribution_cfg": {"class_name": "GaussianDistribution"}}
    runner = {"actor": actor, "critic": {}, "algorithm": {}}
    configurations.config_from_rsl_rl(runner)
    key, _, value = setting.partition("=")
    if key == "a class of your own":
        runner["actor"]["class_name"] = "mine.models:Transformer"
    elif key == "cnn_cfg.norm":
        runner["actor"] |= {"class_name": "CNNModel", "cnn_cfg": {"norm": "batch"}}
    elif key != "class_name":
        runner["algorithm"][key] = {"weight": 1.0}
    elif "Runner" in value:
        runner["class_name"] = value.strip('"')
    else:
        runner["actor"]["class_name"] = value.strip('"')
    with pytest.raises(ValueError, match=r"is not (supported|allowed)"):
        configurations.config_from_rsl_rl(runner)


def test_migrating_has_every_flag():
    named = code_in(prose(MIGRATING))
    flags = {
        f"--{command_line.short_name(flag.name)}" for flag in train.FLAGS + play.FLAGS
    }
    assert flags <= named


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("sphinx"), reason="needs the extra docs")
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs"]
    built = subprocess.run(
        [*command, ".", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    for page in ("index.html", "docs/index.html", "docs/api.html"):
        assert (tmp_path / page).is_file()
    formulas = (tmp_path / "docs" / "ppo.html").read_text()
    assert "<math" in formulas and "\\gamma" not in formulas
    assert "cdn" not in formulas  # nothing comes from elsewhere
