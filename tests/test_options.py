"""Fields that check themselves: conversions, refusals, and the nearest name."""

import math
import sys
from dataclasses import dataclass
from typing import Literal

import pytest

from ppo_jax.options import (
    check_options,
    closest,
    convert,
    fraction,
    load,
    nearest,
    not_negative,
    one_of,
    option,
    positive,
    rising_pair,
    seed_number,
    type_name,
)


@dataclass(frozen=True)
class Inner:
    width: int = option(1, "a width", positive)

    def __post_init__(self):
        check_options(self)


@dataclass(frozen=True)
class Outer:
    count: int = option(1, "a count", positive)
    rate: float = option(0.5, "a rate", fraction)
    free: float = option(0.0, "whatever")
    limit: float | None = option(None, "a limit", positive)
    flag: bool = option(True, "a flag")
    word: str = option("red", "a colour", one_of("red", "green"))
    sizes: tuple[int, ...] = option((1,), "sizes")
    span: tuple[float, float] = option((0.0, 1.0), "a span", rising_pair)
    groups: dict[str, tuple[str, ...]] = option({}, "groups")
    some: int | Literal["all"] = option(1, "how many")
    each: bool | tuple[bool, ...] = option(True, "one for all, or each its own")
    inner: Inner = option(Inner(), "more")

    def __post_init__(self):
        check_options(self)


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (3, int, 3),
        (3, float, 3.0),
        (0.25, float, 0.25),
        (None, float | None, None),
        (3, float | None, 3.0),
        (True, bool, True),
        ("a", str, "a"),
        ("all", int | Literal["all"], "all"),
        (3, int | Literal["all"], 3),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([], tuple[int, ...], ()),
        ((1, 2), tuple[float, float], (1.0, 2.0)),
        ({"a": ["b"]}, dict[str, tuple[str, ...]], {"a": ("b",)}),
    ],
)
def test_convert_widens_only(value, hint, expected):
    """Integers become floats and lists become tuples; types and values are exact."""
    converted = convert(value, hint)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (1.0, int),  # a float is never cut to an int, not even a whole one
        (True, int),
        (True, float),
        (1, bool),
        ("1", int),
        ("0.5", float),
        (1, str),
        (None, float),
        ("none", int | Literal["all"]),
        (3.5, int | Literal["all"]),
        (True, Literal["all"]),
        (1, tuple[int, ...]),
        ([1.5], tuple[int, ...]),
        ([True], tuple[int, ...]),
        ("12", tuple[int, ...]),
        ([1.0], tuple[float, float]),
        ([1.0, 2.0, 3.0], tuple[float, float]),
        ({"a": "b"}, dict[str, tuple[str, ...]]),
        ({1: ["b"]}, dict[str, tuple[str, ...]]),
        (["a"], dict[str, tuple[str, ...]]),
        (5, Inner),
        (float("nan"), int),
    ],
)
def test_convert_refuses_everything_else(value, hint):
    """No other conversion happens silently."""
    with pytest.raises(TypeError, match=r"^give "):
        convert(value, hint)


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (positive, [1, 1e-9], [0, -1, math.inf, math.nan]),
        (not_negative, [0, 0.5], [-1e-9, math.inf, math.nan]),
        (fraction, [0, 0.5, 1], [-1e-9, 1.001, math.inf, math.nan]),
        (seed_number, [0, 2**32 - 1], [-1, 2**32]),
        (rising_pair, [(0, 1)], [(1, 1), (1, 0), (math.nan, 1)]),
        (one_of("a", "b"), ["a", "b"], ["c", ""]),
    ],
)
def test_checks_allow_exactly_their_range(check, right, wrong):
    """A check returns None, or what would be right; the limits are as documented."""
    assert [check(value) for value in right] == [None] * len(right)
    assert all(isinstance(check(value), str) for value in wrong)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"count": "two"}, "count = 'two': give a whole number"),
        ({"rate": 2}, "rate = 2.0 is not allowed: give a number from 0 to 1"),
        ({"rate": 10**400}, "rate = 1000"),
        ({"limit": -1}, "limit = -1.0 is not allowed: give a number above 0"),
        ({"limit": "no"}, "limit = 'no': give a number or none"),
        ({"flag": 1}, "flag = 1: give true or false"),
        ({"word": "gren"}, "give one of red, green (did you mean 'green'?)"),
        ({"word": 3}, "word = 3: give one of red, green"),
        ({"some": 3.5}, "some = 3.5: give a whole number or all"),
        ({"some": "al"}, "some = 'al': give a whole number or all"),
        ({"each": 3}, "each true or false, such as [true, false]"),
        ({"sizes": 3}, "sizes = 3: give a list, each a whole number"),
        ({"span": (1, 0)}, "give the smaller number first"),
        ({"groups": ["a"]}, "give a dictionary of lists"),
        ({"inner": 3}, "inner = 3: give a group of options: width"),
        (
            {"limit": 1e-300},
            "limit = 1e-300 is not allowed: computed in float32",
        ),
        ({"limit": 1e-300}, "where 1e-300 is 0.0: give one of 1.2e-38 to 3.4e38"),
        ({"limit": 1e-40}, "where 1e-40 is 0.0"),  # XLA's zero, not quite NumPy's
        ({"limit": 1e39}, "where 1e+39 is inf"),
        ({"limit": 10**39}, "where 1e+39 is inf"),
        ({"free": -1e39}, "where -1e+39 is -inf"),
        ({"free": math.nan}, "where nan is nan"),
        ({"span": (-1e39, 1.0)}, "span = (-1e+39, 1.0) is not allowed"),
        ({"span": (1.0, 1.0 + 1e-9)}, "where it is (1.0, 1.0): give the smaller"),
    ],
)
def test_wrong_field_is_one_sentence(values, sentence):
    """The field, its value, and what to give instead."""
    with pytest.raises(ValueError) as error:
        Outer(**values)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.2e-38, 3.4e38, 0.1, 1 / 3])
def test_what_float32_holds_is_allowed_and_stays_as_it_was_given(value):
    assert Outer(free=value).free == value


def test_defaults_of_dictionaries_are_not_shared():
    """Two configurations do not share a mutable default."""
    first, second = Outer(), Outer()
    assert first.groups == {}
    assert first.groups is not second.groups


def test_names_of_types_are_words():
    """What is asked for is said in words, with none where it is allowed."""
    assert type_name(float | None) == "a number or none"
    assert type_name(tuple[str, ...]) == "a list, each text, such as ['policy']"
    assert type_name(tuple[float, float]) == "a list of 2, each a number"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gama", "gamma"), ("GAMMA", "gamma"), ("Lmabda", "lambda"), ("xyz", None)],
)
def test_nearest_name(name, expected):
    """Case does not matter; where nothing is near, all names are listed."""
    known = ["lambda", "gamma"]
    assert closest(name, known) == expected
    hint = f"did you mean {expected!r}?" if expected else "known: gamma, lambda"
    assert nearest(name, known) == hint
    assert closest(5, known) is None  # a key of a YAML file may be a number


# --- paths that were written down when envs and configs were packages of their own


def test_a_path_of_before_is_found_in_the_package():
    from ppo_jax.configs.cartpole import CONFIG
    from ppo_jax.envs.cartpole import Cartpole

    assert load("envs.cartpole:Cartpole.reset", "task") is Cartpole.reset
    assert load("configs.cartpole:CONFIG", "config") is CONFIG


def test_who_has_packages_of_these_names_has_theirs(tmp_path, monkeypatch):
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "__init__.py").touch()
    (tmp_path / "envs" / "cartpole.py").write_text("mirrored = 'theirs'")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert load("envs.cartpole:mirrored", "augment") == "theirs"
        assert callable(load("envs.cartpole:Cartpole", "task"))  # only we have that
        with pytest.raises(ValueError, match=r"module 'envs.cartpole' has no .*'miror"):
            load("envs.cartpole:miror", "augment")
        with pytest.raises(ValueError, match=r"No module named 'envs.arm'"):
            load("envs.arm:mirrored", "augment")
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "envs"]:
            del sys.modules[name]
