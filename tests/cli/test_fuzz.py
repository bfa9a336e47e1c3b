"""What anybody may type or write: a value, or one sentence, and nothing else."""

import random

import pytest
import yaml

from ppo_jax.cli import command_line, entry, play, sweep
from ppo_jax.runs import config_fields
from ppo_jax.runs.config import Config
from ppo_jax.runs.config_fields import parse_literal
from ppo_jax.sweeps import axes, settings

PIECES = [
    *"[](){}'\",:=.-+*&|!#@%^~`\\/ \n\t\0\x1b\u00e9\u202e",
    *("0", "1", "-1", "1e400", "1e-400", "0x" + "f" * 5000, "9" * 5000, "nan", "inf"),
    *("none", "true", "elu", "gamma", "actor", "policy", "log(", "uniform(", "1j"),
    *("**", "f''", "b'a'", "set()", "...", "&a", "*a", "!!int", "!!timestamp", "- "),
    *(
        "2001-99-99",
        "? ",
        "<<",
        "[" * 300,
        "-" * 300,
        "\udcff",
        "lambda:0",
        "1if 1else",
    ),
]
PATHS = [path for path, _ in config_fields.fields_of(Config())]
HUGE_NAME = "x" * 5000


def strings(count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        yield "".join(rng.choices(PIECES, k=rng.randint(0, 7)))


def sentence_or_value(function, *arguments):
    """Calls it; a ValueError must be a sentence when it is shown."""
    try:
        return function(*arguments)
    except ValueError as error:
        said = entry.readable(str(error))
        assert said
        assert said.isprintable()
        assert len(said) <= entry.MAX_SENTENCE + 3
        assert "set_int_max_str_digits" not in said
        return None


@pytest.mark.filterwarnings("error")
def test_every_text_is_a_literal_or_itself():
    """2000 strings; Python's own warnings on odd literals are not passed on."""
    for text in strings(2000, seed=1):
        parse_literal(text)


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 10_000, "-" * 100_000 + "1", "{[]: 1}", "0x" + "f" * 5000, "9" * 5000),
        *("(" * 90 + ")" * 90, "{{}}", "\0", "'\\d'", "1+" * 20_000 + "1"),
    ],
    ids=lambda text: text[:6],
)
@pytest.mark.filterwarnings("error")
def test_literals_that_python_chokes_on_are_texts_or_values(text):
    parse_literal(text)
    for path in ("algorithm.gamma", "num_envs", "actor.hidden_dims", "obs_groups"):
        with pytest.raises(ValueError, match=rf"^{path} = .{{1,300}}: give|allowed"):
            config_fields.override(Config(), {path: text})


def test_every_command_line_is_understood_or_refused_in_a_sentence():
    rng = random.Random(2)
    words = list(strings(300, seed=3))
    for first, second in zip(words, reversed(words), strict=True):
        path = rng.choice(PATHS)
        argv = rng.choice([[first, second], [f"{path}={first}", f"--{second}"]])
        for script in (play, sweep):
            sentence_or_value(command_line.parse, argv, script.FLAGS)


def test_every_override_is_a_configuration_or_a_sentence():
    rng = random.Random(4)
    for text in strings(1000, seed=5):
        path = rng.choice(PATHS)
        made = sentence_or_value(config_fields.override, Config(), {path: text})
        assert made is None or isinstance(made, Config)


def test_every_axis_is_an_axis_or_a_sentence():
    rng = random.Random(6)
    for text in strings(2000, seed=7):
        sentence_or_value(axes.parse_axis, rng.choice(PATHS), text)
    for text in strings(200, seed=8):
        axis = {rng.choice(PATHS): text}
        sentence_or_value(settings.make_sweep, Config(), axis)


def test_every_file_is_a_configuration_or_a_sentence(tmp_path):
    path = tmp_path / "agent.yaml"
    rng = random.Random(9)
    for text in strings(1000, seed=10):
        name = rng.choice(["task", "algorithm", "actor", "obs_groups", "num_envs"])
        text = rng.choice([text, f"{name}: {text}"])
        path.write_bytes(text.encode(errors="surrogateescape"))
        made = sentence_or_value(config_fields.load, path)
        assert made is None or isinstance(made, Config)


ALIASES = "a: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"b{n}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(30)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 5000 + "]" * 5000, "nested too deeply"),
        ("obs_groups: " + "{a: " * 3000 + "1" + "}" * 3000, "nested too deeply"),
        (ALIASES + "obs_groups: *a30\n", "there is no option 'a'"),
        ("obs_groups: &a [*a]\n", "obs_groups = [[[["),
        ("num_envs: 2001-99-99\n", "cannot read the configuration"),
        ("num_envs: !!timestamp x\n", "cannot read the configuration"),
        ("num_envs: !!python/object:os.system x\n", "cannot read the configuration"),
        (f"? {HUGE_NAME}\n: 1\n", "there is no option 'xxx"),
        (f"task: [{HUGE_NAME}]\n", "task = ['xxx"),
        ("? [1, 2]\n: 3\n", "cannot read the configuration"),
        ("1: 2\n", "there is no option '1'"),
    ],
    ids=range(11),
)
def test_odd_yaml_is_a_short_sentence(tmp_path, text, words):
    path = tmp_path / "agent.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"agent\.yaml") as error:
        config_fields.load(path)
    assert words in str(error.value)
    assert len(entry.readable(str(error.value))) < 1300


def test_what_many_aliases_would_print_is_cut(tmp_path):
    """9^31 words, if they were written out."""
    path = tmp_path / "agent.yaml"
    path.write_text(f"obs_groups: {{actor: {yaml.safe_load(ALIASES)['a']}}}\n")
    config_fields.load(path)
    data = yaml.safe_load(ALIASES)
    with pytest.raises(ValueError, match="obs_groups = ") as error:
        config_fields.from_dict({"obs_groups": data["b29"]})
    assert len(str(error.value)) < 20_000


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;http://a\x07link\x1b]8;;\x07", "link"),
        ("two\nlines\r\n\tand a tab", "two lines and a tab"),
        ("a\x00b\u202ec", "a b c"),
        ("x" * 5000, "x" * 150 + "..." + "x" * 150),
    ],
)
def test_a_message_is_one_line_without_codes(text, shown, capsys):
    assert entry.readable(text) == shown
    entry.complain(text)
    assert capsys.readouterr().err.count("\n") == 1
