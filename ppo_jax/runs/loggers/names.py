"""The loggers that `--logger` names, several with commas."""

from importlib.util import find_spec

from ppo_jax.options import closest, dotted_path, load

IN_FOLDER = ("tensorboard", "csv", "none")  # metrics.csv is written in any case
WANDB = "wandb"
KNOWN = ("tensorboard", WANDB, "csv", "none")
WRITERS = {WANDB: "ppo_jax.runs.loggers.wandb_writer:WandbWriter"}


def names_of(logger: str) -> tuple[str, ...]:
    """Returns the names that stand between commas."""
    return tuple(name.strip() for name in logger.split(","))


def loggers(value: str) -> str | None:
    """Allows what `--logger` takes."""
    names = names_of(value)
    for name in names:
        if name not in KNOWN and dotted_path(name):
            match = closest(name, KNOWN)
            hint = f" (did you mean {match!r}?)" if match else ""
            return f"{', '.join(KNOWN)} or package.module:Class{hint}"
    if len(set(names)) < len(names):
        return "each logger once"
    if "none" in names and len(names) > 1:
        return "none alone, or others without it"
    return None


def beside(logger: str) -> tuple[str, ...]:
    """Returns the names of those that write elsewhere than to the run's folder.

    Raises:
      ValueError: one of them cannot be used: its package is missing, or it is no
        logger; says which, and the fix.
    """
    names = tuple(name for name in names_of(logger) if name not in IN_FOLDER)
    for name in names:
        if name == WANDB:
            if find_spec("wandb") is None:
                raise ValueError(
                    "logger = 'wandb' needs the package wandb, which is not installed: "
                    "pip install wandb, or uv run --extra wandb"
                )
        elif not callable(getattr(load(name, "logger"), "add_scalar", None)):
            raise ValueError(
                f"logger = {name!r} has no add_scalar(tag, value, step): give a class "
                "in the form of rsl_rl's LogWriter"
            )
    return names
