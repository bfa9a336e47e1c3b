"""Strict arithmetic on the CPU for every test, and one cache of programs for a run.

The cache is empty at the start of a run and gone at its end. All workers share it, and
all processes that tests start: what one has compiled, the others read.
"""

import os
import shutil
import tempfile

import pytest

# Files that take longest, longest first: a worker that starts one late ends late.
LONGEST = ()

os.environ["JAX_PLATFORMS"] = "cpu"


def pytest_configure(config):
    if not is_worker(config):
        share_compilations(config)
    if is_worker(config) or not config.getoption("numprocesses", None):
        import jax  # not in the process that only hands out tests

        jax.config.update("jax_numpy_rank_promotion", "raise")


def is_worker(config):
    return hasattr(config, "workerinput")


def share_compilations(config):
    """Tells all processes of the run where to keep programs, however small."""
    folder = tempfile.mkdtemp(prefix="ppo_jax_compiled_")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Puts the longest files first; the tests of a file keep their order."""
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.location[0], len(rank)))


@pytest.fixture(params=[False, True], ids=["eager", "jit"])
def maybe_jit(request):
    """Runs the test twice: functions as they are, and jitted."""
    import jax

    return jax.jit if request.param else lambda f: f
