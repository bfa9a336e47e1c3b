"""Programs that mean the same, are compiled in a quarter of the time and run slower."""

import os

import jax
from jax._src import compiler  # no public option reaches all programs

# jaxlib 0.10 can still translate a fusion without MLIR, in less than half of the time.
HAS_PLAIN_FUSIONS = jax.__version_info__ < (0, 11)
PLAIN = {"xla_cpu_use_fusion_emitters": False} if HAS_PLAIN_FUSIONS else {}
LEVEL = {"xla_backend_optimization_level": 0}


def flags(options):
    """Returns XLA_FLAGS with more options than this process has."""
    more = (f"--{name}={str(value).lower()}" for name, value in options.items())
    return " ".join([os.environ.get("XLA_FLAGS", ""), *more]).strip()


# What makes other processes compile like this: with this jaxlib, or with any.
FLAGS, FLAGS_OF_ANY = flags(LEVEL | PLAIN), flags(LEVEL)

well = compiler.get_compile_options
_on = False


def is_on():
    """Returns whether this process compiles like this now."""
    return _on


def switch(on):
    """Compiles everything like this from now on, or nothing; forgets all programs."""
    global _on
    if on == _on:
        return
    _on = on
    jax.config.update("jax_disable_most_optimizations", on)
    compiler.get_compile_options = carelessly if on and PLAIN else well
    jax.clear_caches()


def carelessly(*args, env_options_overrides=None, **options):
    """What jax says to XLA, and not to spend its time on fusions."""
    overrides = PLAIN | (env_options_overrides or {})
    return well(*args, env_options_overrides=overrides, **options)
