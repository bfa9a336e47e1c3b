"""What the README promises: its code runs, its commands parse, its links lead on."""

import re
import shlex
from pathlib import Path

import pytest

from configs import config_for
from ppo_jax import cli
from ppo_jax.config import override
from ppo_jax.scripts import play, sweep, train

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
SCRIPTS = {"train.py": train.FLAGS, "play.py": play.FLAGS, "sweep.py": sweep.FLAGS}


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def script_commands():
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line.split("&&")[-1])
                script = next((word for word in words if word in SCRIPTS), None)
                if words[:2] == ["uv", "run"] and script:
                    given = words[words.index(script) + 1 :]
                    yield pytest.param(script, given, id=shlex.join([script, *given]))


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks(ROOT / "README.md", "python"))
def test_the_code_of_the_readme_runs(code, capsys):
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.count("nan") == 0


@pytest.mark.parametrize(("script", "words"), script_commands())
def test_every_command_is_understood(script, words):
    arguments = cli.parse(words, SCRIPTS[script])
    if script == "train.py":
        task = str(arguments.flags.get("task", "Cartpole"))
        override(config_for(task), train.config_overrides(arguments))
    if script == "sweep.py" and not {"resume", "export"} & arguments.flags.keys():
        sweep.make_plan(arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_to_a_file(page):
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text())
    local = [target for target in targets if "://" not in target]
    missing = [target for target in local if not (page.parent / target).exists()]
    assert not missing
