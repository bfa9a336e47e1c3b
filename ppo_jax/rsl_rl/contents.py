"""What a model file of rsl_rl must hold, checked part by part and by name.

torch is not imported: a tensor is what can be asked for its array. Weights of any
floating type are read; what float32 cannot hold exactly is said.
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ppo_jax.rsl_rl.encoders import GRIDS

PARTS = ("actor_state_dict", "critic_state_dict", "optimizer_state_dict", "iter")
MODELS = PARTS[:2]
MAX_ITERATION = 2**31 - 2
VARIANCE = "obs_normalizer._var"
STD = "obs_normalizer._std"
COUNT = "obs_normalizer.count"
STD_TOLERANCE = 2e-2  # bfloat16 rounds both, the variance and its root


class Contents(NamedTuple):
    """A model file that has passed: numbers are finite, tensors are arrays."""

    actor: dict[str, np.ndarray]
    critic: dict[str, np.ndarray]
    settings: dict[str, Any]  # of the optimizer
    learning_rate: float
    memory: dict[int, dict[str, np.ndarray]]  # {place: what the optimizer keeps}
    iteration: int  # its index: one more of them are done

    @property
    def parameters(self) -> list[tuple[str, str, np.ndarray]]:
        """(model, name, array) of every parameter, in the order of the optimizer."""
        return [
            (model, name, array)
            for model, state in (("actor", self.actor), ("critic", self.critic))
            for name, array in state.items()
            if not name.startswith("obs_normalizer.") and not name.endswith(GRIDS)
        ]


def read_contents(saved: Any) -> Contents:
    """Returns what torch has loaded from a file, checked.

    Warns:
      UserWarning: numbers of float64 were rounded; says how many arrays.

    Raises:
      ValueError: a part is missing, of another kind, or not finite; names it.
    """
    if not isinstance(saved, Mapping):
        raise ValueError(
            f"it is no model_*.pt of rsl_rl's PPO: it has no {PARTS[0]!r}, but is a "
            f"{type(saved).__name__}"
        )
    if "model_state_dict" in saved:
        raise ValueError("it was saved by rsl_rl before version 4: give one of 5")
    for part in PARTS:
        if part not in saved:
            raise ValueError(f"it is no model_*.pt of rsl_rl's PPO: it has no {part!r}")
    rounded: list[str] = []
    models = [_state_dict(saved[part], part, rounded) for part in MODELS]
    settings, memory = _optimizer(saved["optimizer_state_dict"], rounded)
    if rounded:
        more = f" and {len(rounded) - 1} more" if len(rounded) > 1 else ""
        warnings.warn(
            f"{rounded[0]}{more} of float64 were rounded to float32", stacklevel=4
        )
    return Contents(
        *models,
        settings=settings,
        learning_rate=_number(settings.get("lr"), "the optimizer's 'lr'"),
        memory=memory,
        iteration=_iteration(saved["iter"]),
    )


def read_policy(saved: Any) -> dict[str, np.ndarray]:
    """Returns the arrays of the policy in what torch has loaded.

    Raises:
      ValueError: there is none, or it is damaged; names what.
    """
    for name in ("student", "actor"):
        part = f"{name}_state_dict"
        if isinstance(saved, Mapping) and part in saved:
            return _state_dict(saved[part], part, [])
    raise ValueError("it is no model_*.pt of rsl_rl: it has no policy")


def require_memory_fits(contents: Contents) -> None:
    """Raises ValueError if the optimizer remembers other parameters than there are."""
    parameters = contents.parameters
    for index, entry in contents.memory.items():
        if not 0 <= index < len(parameters):
            raise ValueError(
                f"the optimizer remembers a parameter {index}, but the models have "
                f"{len(parameters)}"
            )
        model, name, parameter = parameters[index]
        for key, array in entry.items():
            wanted = () if key == "step" else parameter.shape
            if array.shape != wanted:
                raise ValueError(
                    f"the optimizer's {key!r} of {name!r} of the {model} has the shape "
                    f"{list(array.shape)}, not {list(wanted)}"
                )
            if key in ("exp_avg_sq", "square_avg", "step") and (array < 0).any():
                raise ValueError(
                    f"the optimizer's {key!r} of {name!r} of the {model} has a "
                    "negative number"
                )
        if entry.get("step", np.zeros(())).max() > MAX_ITERATION:
            raise ValueError(f"the optimizer has counted {entry['step']} steps")


def _state_dict(state: Any, part: str, rounded: list[str]) -> dict[str, np.ndarray]:
    if not isinstance(state, Mapping):
        raise ValueError(f"{part!r} is a {type(state).__name__}, not a state dict")
    arrays = {
        str(name): _array(x, f"{name!r} of {part!r}", rounded, name == COUNT)
        for name, x in state.items()
    }
    for name in (VARIANCE, COUNT):
        if name in arrays and (arrays[name] < 0).any():
            raise ValueError(f"{name!r} of {part!r} has a negative number")
    if STD in arrays and VARIANCE in arrays:
        root, std = np.sqrt(arrays[VARIANCE]), arrays[STD]
        if root.shape != std.shape or not np.allclose(root, std, STD_TOLERANCE):
            raise ValueError(f"{STD!r} of {part!r} is not the root of the variance")
    return arrays


def _array(x: Any, name: str, rounded: list[str], integer: bool = False) -> np.ndarray:
    """Returns a tensor as an array of float32, or, where it counts, of any number."""
    if not hasattr(x, "detach"):
        raise ValueError(f"{name} is a {type(x).__name__}, not a tensor")
    kind = str(x.dtype).removeprefix("torch.")
    if x.is_meta or str(x.layout) != "torch.strided" or x.is_quantized:
        raise ValueError(f"{name} is no plain tensor: save the weights themselves")
    if integer and not kind.startswith(("complex", "bool")):
        array = x.detach().cpu().double().numpy()
    elif x.is_floating_point():
        exact = x.detach().cpu().double().numpy()
        with np.errstate(over="ignore"):
            array = exact.astype(np.float32)
        if not np.array_equal(array, exact, equal_nan=True):
            rounded.append(name)
    else:
        raise ValueError(f"{name} is {kind}: weights are floating-point numbers")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} is not finite in float32: the policy is not usable")
    return array


def _optimizer(
    state: Any, rounded: list[str]
) -> tuple[dict[str, Any], dict[int, dict[str, np.ndarray]]]:
    """Returns the settings and the memory of an optimizer's state dict."""
    where = repr(PARTS[2])
    if not isinstance(state, Mapping):
        raise ValueError(f"{where} is a {type(state).__name__}, not a state dict")
    groups, memory = state.get("param_groups"), state.get("state")
    if (
        not isinstance(groups, list)
        or len(groups) != 1
        or not isinstance(groups[0], Mapping)
    ):
        raise ValueError(f"{where} has not one group of parameters, as rsl_rl's has")
    if not isinstance(memory, Mapping):
        raise ValueError(f"{where} has no 'state'")
    arrays = {}
    for index, entry in memory.items():
        if not isinstance(index, int) or not isinstance(entry, Mapping):
            raise ValueError(f"'state' of {where} holds {index!r}, no parameter's")
        arrays[index] = {
            str(name): _array(
                x, f"{name!r} of parameter {index} in {where}", rounded, name == "step"
            )
            for name, x in entry.items()
            if x is not None
        }
    return dict(groups[0]), _of_places(groups[0].get("params"), arrays)


def _of_places(numbers: Any, memory: dict[int, Any]) -> dict[int, Any]:
    """Returns {place in the list of parameters: what is kept of it}.

    torch keeps it by a number. A parameter that two models share has two places, and
    one number, that of the last.
    """
    if not isinstance(numbers, list) or not memory.keys() <= set(numbers):
        return memory  # `require_memory_fits` says what is wrong
    return {place: memory[x] for place, x in enumerate(numbers) if x in memory}


def _number(value: Any, name: str) -> float:
    """Returns a number from 0 that float32 can hold, from a tensor as well."""
    if hasattr(value, "detach") and value.numel() == 1:
        value = value.item()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 <= value < 3e38:
        raise ValueError(f"{name} is {_shown(value)}, no number from 0")
    return float(value)


def _iteration(value: Any) -> int:
    if hasattr(value, "detach") and value.numel() == 1:
        value = value.item()
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or not 0 <= value <= MAX_ITERATION:
        raise ValueError(f"'iter' is {_shown(value)}, no number of an iteration")
    return value


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else f"{text[:40]}..."
