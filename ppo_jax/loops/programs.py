"""How a function that steps environments becomes a program."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ppo_jax import compiling
from ppo_jax.types import Env, Simulator


def jit(
    env: Env, function: Callable[..., Any], once: bool = False, **options: Any
) -> Any:
    """Returns a function that steps environments as `jax.jit` does.

    Where they are a simulator's it is compiled as that needs it: see `Simulator.jit`.

    Args:
      env: the environments.
      function: what steps or resets them.
      once: it is called once, see `compiling.once`.
      **options: of `jax.jit`.
    """
    if isinstance(env, Simulator):
        return env.jit(function, **options)
    how = compiling.once(exact=True) if once else compiling.whole()
    return compiling.jit(function, compiler_options=how, **options)


def simulator_errors(
    env: Env, num_calls: int | None = None
) -> AbstractContextManager[None]:
    """Re-raises what a simulator raised in a program; to be put around its calls.

    Raises as well if it was called otherwise than `num_calls` times in there.
    """
    return env.errors(num_calls) if isinstance(env, Simulator) else nullcontext()
