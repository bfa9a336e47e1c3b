"""Programs that call a simulator: compiled so that no call is doubled, and checked.

On CUDA, XLA's dynamic-slice fusion clones a callback whose result `lax.scan` stacks:
the simulator is stepped twice per step, and nothing else shows it. A barrier behind the
call keeps it whole (`ppo_jax.envs.drivers`); these programs are compiled without that
fusion all the same, and every one is compared with what was asked for.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import jax

from ppo_jax.compiling import Program

CALL = re.compile(r"\bxla_buffer_python_\w+_callback\b")
# func.func private @name(          in StableHLO
# %name (parameters) -> type {      and `ENTRY %name (...)` in HLO
HEADER = re.compile(
    r"(?:\s*func\.func (?:\w+ )?@|(?P<entry>ENTRY )?%?)(?P<name>[\w.\-]+) ?\("
)
# call @name(...);  calls=%name, body=%name, branch_computations={%a, %b}
USES = re.compile(r"(?:\bcall |\w=\{?)((?:[@%][\w.\-]+(?:, )?)+)")
NAME = re.compile(r"[@%]([\w.\-]+)")
# By backend, what a program that calls a simulator needs; others know no such option.
OPTIONS: dict[str, dict[str, Any]] = {
    "gpu": {"xla_gpu_enable_dynamic_slice_fusion": False}
}


class WrongCalls(ValueError):
    """A simulator is called more often, or less, than it was asked for."""


class LoweredProgram(NamedTuple):
    """A program that is traced, as `jax.stages.Lowered`; its compilation is checked."""

    lowered: jax.stages.Lowered

    def compile(self) -> jax.stages.Compiled:
        """Compiles it.

        Raises:
          WrongCalls: XLA has doubled or dropped a call of the simulator.
        """
        compiled = self.lowered.compile()
        require_same_calls(self.lowered.as_text(), compiled.as_text() or "")
        return compiled


class SimulatorProgram(Program):
    """What `jax.jit` gives, for a function that calls a simulator."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        """Takes the options of `jax.jit`."""
        ours = OPTIONS.get(jax.default_backend(), {})
        theirs = options.pop("compiler_options", None) or {}
        super().__init__(function, compiler_options={**ours, **theirs}, **options)
        self._checked: set[Any] = set()

    def lower(self, *args: Any, **kwargs: Any) -> LoweredProgram:
        """Traces it for arguments, or for their shapes and types."""
        return LoweredProgram(super().lower(*args, **kwargs))

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the program; compiles and checks it when it is new."""
        leaves, treedef = jax.tree.flatten((args, kwargs))
        signature = (treedef, *map(_kind, leaves))
        if signature not in self._checked:
            self.lower(*args, **kwargs).compile()  # which jax keeps for the next line
            self._checked.add(signature)
        return super()._run(*args, **kwargs)


def require_same_calls(lowered: str, compiled: str) -> None:
    """Raises WrongCalls unless a compiled program calls as often as the lowered one.

    Args:
      lowered: the program in StableHLO.
      compiled: the same in HLO, as XLA will run it.
    """
    asked, found = count_calls(lowered), count_calls(compiled)
    if asked != found:
        raise WrongCalls(
            f"jax {jax.__version__} compiled {found} calls of the simulator where the "
            f"program has {asked}, so that steps would be taken twice or not at all: "
            "step it from the host (--bridge host, driver = 'host'), or switch off the "
            "pass of XLA that does it (on CUDA so far it was "
            "XLA_FLAGS=--xla_gpu_enable_dynamic_slice_fusion=false)"
        )


def count_calls(text: str) -> int:
    """Returns how many places of a program call a simulator.

    A function, computation or fusion counts as often as it is used; a loop's body once.

    Args:
      text: StableHLO or HLO.
    """
    functions = {name: (calls, used) for name, calls, used in _functions(text)}

    @cache
    def count(name: str) -> int:
        calls, used = functions[name]
        return calls + sum(count(other) for other in used if other in functions)

    return count("") if "" in functions else 0


def _functions(text: str) -> Iterator[tuple[str, int, list[str]]]:
    """Yields each function's name, calls and what it uses; "" names the first."""
    name, calls, used = None, 0, []
    for line in text.splitlines():
        header = HEADER.match(line)
        if header:
            if name is not None:
                yield name, calls, used
            is_first = header["entry"] or header["name"] == "main"
            name, calls, used = "" if is_first else header["name"], 0, []
            continue
        calls += len(CALL.findall(line.split("metadata=")[0]))
        used += [x for names in USES.findall(line) for x in NAME.findall(names)]
    if name is not None:
        yield name, calls, used


def _kind(leaf: Any) -> Any:
    """Returns what of an argument makes a program another one."""
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        return leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False)
    if isinstance(leaf, bool | int | float | complex):
        return type(leaf)
    return leaf  # static, or an error of jax
