"""How a script starts and ends: one sentence for a mistake, and an exit code."""

import atexit
import gc
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

USAGE_ERROR = 2
ANOTHER_ENDED = 3  # of several processes: the reason is where that one ended
ISAAC_LAB = "isaaclab"  # whose command line calls ours
MAX_WORD, MAX_SENTENCE = 300, 1200  # letters of a message
ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-_])")


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Runs a script; a user's mistake ends in one sentence and exit code 2.

    So does what another process of the run caused by ending, with exit code 3.
    """
    find_modules_here()
    without_collections()
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
        complain(str(error))
        sys.exit(ANOTHER_ENDED if isinstance(error, ConnectionError) else USAGE_ERROR)
    except (MemoryError, RuntimeError) as error:
        if os.environ.get("PPO_JAX_TRACEBACK") or not _is_out_of_memory(error):
            raise
        complain(
            "the memory is too small for this: give fewer environments (num_envs) or "
            f"steps (num_steps_per_env); {error}"
        )
        sys.exit(USAGE_ERROR)
    except KeyboardInterrupt:
        complain("stopped at once; what was saved last is the newest checkpoint")
        sys.exit(130)
    finally:
        gc.enable()


def without_collections() -> None:
    """Looks for no garbage until `collect_again`, and not when the command ends.

    To import and build makes hundreds of thousands of objects, and they stay. To look
    through them again and again takes a fifth of the time until a command starts, and
    once more when it ends, though all goes with the process.
    """
    gc.disable()
    atexit.register(gc.freeze)


def collect_again() -> None:
    """Looks for garbage from now on, but not among what is there by now.

    What it does next, to trace programs, would have it look through all of that again.
    """
    gc.freeze()
    gc.enable()


def find_modules_here() -> None:
    """Lets modules be imported where the command is typed, after all installed ones.

    The top of a checkout of ours comes last: somebody's own `envs` is not hidden by
    the folder of ours, which is `ppo_jax.envs`.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    package = Path(__file__).parents[1]
    if (package / "envs").is_symlink():
        top = str(package.parent)
        sys.path[:] = [path for path in sys.path if path != top] + [top]


def complain(sentence: str) -> None:
    """Prints a sentence to stderr, with the command's name before it."""
    sentence = readable(sentence)
    print(f"{Path(sys.argv[0]).name}: {sentence}", file=sys.stderr, flush=True)


def typed(command: str) -> str:
    """Returns one of our commands in the form in which this one was typed.

    Args:
      command: of a script, such as "play.py --checkpoint RUN".
    """
    script, _, rest = command.partition(" ")
    verb = script.removesuffix(".py")
    program = sys.argv[0].rpartition(" ")[0]  # of "ppo-jax train", see `main`
    if script == verb:  # not ours
        return command
    if not program:
        return f"uv run {command}"
    if program == ISAAC_LAB and verb != "sweep":
        verb = "leapp export" if verb == "export" else verb
        return f"{ISAAC_LAB} {verb} --rl_library ppo_jax {rest}".rstrip()
    program = "ppo-jax" if program == ISAAC_LAB else program
    return f"{program} {verb} {rest}".rstrip()


def readable(text: str) -> str:
    """Returns a text as one line, without escape codes, and not longer than a screen.

    What a sentence quotes may be anything: what was typed, a file's content, or what a
    library says with colours. The middle of a long word is left out, and the middle of
    what is too long all the same: what is wrong stands first, the way out last.
    """
    text = ESCAPE.sub("", text)
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    words = [_shortened(word, MAX_WORD) for word in text.split()]
    return _shortened(" ".join(words), MAX_SENTENCE)


def _shortened(text: str, limit: int) -> str:
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]}...{text[-half:]}"


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


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
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
