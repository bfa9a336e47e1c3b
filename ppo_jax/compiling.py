"""How programs are compiled where a backend's defaults are not the fastest."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import update_wrapper
from typing import Any

import jax
from jax.core import Tracer

LEVEL = "xla_backend_optimization_level"  # of LLVM's code, from 0 to 3

# By backend. On CUDA a gradient step is about a hundred small kernels. XLA records them
# as one graph, but in a row: actor and critic, which need not wait for each other, then
# do. At once, an update takes a fifth less (docs/gpu.md).
OPTIONS: dict[str, dict[str, Any]] = {
    "gpu": {"xla_gpu_command_buffer_scheduling_mode": "CONCURRENT"}
}


def once(exact: bool = False) -> dict[str, Any]:
    """Returns compiler options for a program that runs once.

    On a CPU it is compiled in half the time, and takes milliseconds more.

    Args:
      exact: its numbers are to be those of other options, as what a run begins with is;
        without, it is compiled in still less time, and the last bit may differ.
    """
    if jax.default_backend() != "cpu":
        return {}
    options = _level(2 if exact else 0)
    if jax.__version_info__ < (0, 11):  # later XLA has only the slower way
        options["xla_cpu_use_fusion_emitters"] = False
    return options


def whole() -> dict[str, Any]:
    """Returns compiler options for what a run does in one program, not in several.

    XLA on a CPU takes 256 bits at a time, lest more slow the clock; the products of its
    libraries are of 512 where there are such. Matrix times vector then has other
    digits: programs of which two are to have the same are compiled without. Its highest
    level of optimization, 3, takes an eighth longer to compile, and gains nothing.
    """
    is_cpu = jax.default_backend() == "cpu"
    return {"xla_cpu_prefer_vector_width": 512, **_level(2)} if is_cpu else {}


def _level(ours: int) -> dict[str, Any]:
    """Returns the level of optimization as an option, if nobody asks for another."""
    none = jax.config.read("jax_disable_most_optimizations")
    asked = none or LEVEL in os.environ.get("XLA_FLAGS", "")
    return {} if asked else {LEVEL: ours}


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """Returns what `jax.jit` does, compiled with the options of this backend."""
    if not OPTIONS.get(jax.default_backend()) and "compiler_options" not in options:
        return jax.jit(function, **options)
    return Program(function, **options)


class Program:
    """What `jax.jit` gives, for a function that has compiler options.

    Inside another program it is the function itself: the outermost one decides how all
    is compiled.
    """

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        """Takes the options of `jax.jit`; its compiler options go before ours."""
        self._ahead: Future[Any] | None = None
        ours = OPTIONS.get(jax.default_backend(), {})
        compiler_options = {**ours, **(options.pop("compiler_options", None) or {})}
        self._function = function
        self._jitted = jax.jit(
            function, compiler_options=compiler_options or None, **options
        )
        update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the program; compiles it when it is new."""
        if any(isinstance(x, Tracer) for x in jax.tree.leaves((args, kwargs))):
            return self._function(*args, **kwargs)
        if self._ahead:
            self._ahead.result()
        return self._run(*args, **kwargs)

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """Traces it for arguments, or for their shapes and types."""
        return self._jitted.lower(*args, **kwargs)

    def compile_ahead(self, *args: Any) -> None:
        """Begins to compile for arguments of these shapes, for which a call waits."""
        if self._ahead is None:
            self._ahead = ThreadPoolExecutor(1).submit(self.lower(*args).compile)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        return self._jitted(*args, **kwargs)
