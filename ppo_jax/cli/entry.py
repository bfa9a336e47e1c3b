"""How a script starts and ends: one sentence for a mistake, and an exit code."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

USAGE_ERROR = 2


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Runs a script; a user's mistake ends in one sentence and exit code 2."""
    try:
        code = main() or 0
        sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (ValueError, ImportError, OSError) as error:
        if os.environ.get("PPO_JAX_TRACEBACK"):
            raise
        complain(" ".join(str(error).split()))
        sys.exit(USAGE_ERROR)
    except KeyboardInterrupt:
        complain("stopped at once; what was saved last is the newest checkpoint")
        sys.exit(130)


def complain(sentence: str) -> None:
    """Prints a sentence to stderr, with the script's name before it."""
    print(f"{Path(sys.argv[0]).name}: {sentence}", file=sys.stderr, flush=True)


def use_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that the second run starts at once."""
    import jax

    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if folder is None:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = str(Path(cache) / "ppo_jax" / "xla")
    if folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
