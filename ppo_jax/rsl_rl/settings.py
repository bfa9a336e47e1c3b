"""Settings of rsl_rl, read one by one: what is given, and which class is asked for."""

import re
from collections.abc import Mapping
from dataclasses import MISSING
from typing import Any


class UnsupportedFeature(ValueError):
    """An rsl_rl configuration asks for what is not here; `feature` names it."""

    def __init__(self, feature: str) -> None:
        """Keeps the feature's name; that of somebody's class is its path."""
        self.feature = feature
        owner = "" if re.search(r"[.:]", feature) else "rsl_rl's "
        super().__init__(f"{owner}{feature} is not supported yet")


def what_is_given(settings: Any) -> dict[str, Any]:
    """Returns the settings that say something."""
    if not isinstance(settings, Mapping):
        return {}
    return {
        key: value
        for key, value in settings.items()
        if value is not None and value != {} and not isinstance(value, type(MISSING))
    }


def require_class(settings: Mapping[str, Any], default: str, *others: str) -> str:
    """Returns which of the classes that are here the settings ask for.

    rsl_rl takes a name, a path ("rsl_rl.models:MLPModel", with a colon or a dot) or
    a class.
    """
    asked = settings.get("class_name", default)
    if not isinstance(asked, str):
        asked = f"{asked.__module__}:{asked.__qualname__}"
    if asked.startswith("rsl_rl."):
        asked = re.split(r"[.:]", asked)[-1]
    elif ":" not in asked:  # "a.b.C" is "a.b:C"
        asked = ":".join(asked.rsplit(".", 1))
    if asked not in (default, *others):
        raise UnsupportedFeature(str(asked))
    return str(asked)
