"""From a command line to the plan of a sweep."""

from ppo_jax.cli import cluster, teaching
from ppo_jax.cli.command_line import Arguments, whole_number
from ppo_jax.cli.simulators import backend_of
from ppo_jax.cli.tasks import checked_task, default_config
from ppo_jax.loops.pbt_config import PBTConfig
from ppo_jax.runs.config import Config
from ppo_jax.runs.config_fields import override, parse_literal, short_name
from ppo_jax.sweeps import settings
from ppo_jax.sweeps.planning import Sweep

NOT_AXES = {
    *("task", "seeds", "seed", "samples", "stop_bad", "chunk_size", "name"),
    *("population", "pbt", "perturbation_interval", "quantile_fraction"),
    *("resume", "sweep", "export", "help", "headless"),
    *(*cluster.FLAGS, "distributed"),
}
# What only a run of its own has.
OF_RUNS = (
    *("run_name", "experiment_name", "save_interval", "keep_checkpoints"),
    *("logger", "wandb_project", "upload_model"),
    "devices",
)


def make_plan(arguments: Arguments) -> Sweep:
    """Returns the plan that a command line asks for.

    Raises:
      ValueError: something in it is wrong; names it and the fix.
    """
    if "sweep" in arguments.flags:
        raise ValueError("--sweep is for --resume and --export: leave it away")
    given = {**arguments.flags, **arguments.overrides}
    population = whole_number(arguments, "population", 0)
    for path in given:
        if path in OF_RUNS and not (population and path == "save_interval"):
            raise ValueError(
                f"a sweep has no use for {short_name(path)}: leave it away, or give "
                "it to train.py with an exported member"
            )
    if population and "chunk_size" in given:
        raise ValueError("--population says what runs at once: leave --chunk_size away")
    defaults = default_config(
        _task(arguments, population),
        str(arguments.flags.get("simulator.agent", "")),
        arguments.tokens,
    )
    defaults, arguments = teaching.asked(defaults, arguments)
    given = {**arguments.flags, **arguments.overrides}
    if "seed" in given:
        defaults = override(defaults, {"seed": given["seed"]})
    axes = {k: str(v) for k, v in given.items() if k not in NOT_AXES}
    return settings.make_sweep(
        defaults,
        axes,
        num_seeds=whole_number(arguments, "seeds", 1),
        samples=whole_number(arguments, "samples", 0),
        stop_bad=_stop_fraction(arguments),
        population=population,
        pbt=_evolution(arguments),
    )


def check_name(base: Config, name: str) -> None:
    """Raises ValueError unless a folder can be called so."""
    try:
        override(base, {"run_name": name})
    except ValueError as error:
        raise ValueError(str(error).replace("run_name", "--name", 1)) from None


def _task(arguments: Arguments, population: int) -> str:
    """Returns the task that is meant.

    Raises:
      ValueError: there is no such task, or its simulator is not shared.
    """
    task = checked_task(arguments.flags)
    if backend_of(task) and not population:
        raise ValueError(
            f"--task {task} runs in a simulator, one in a process: give --population P "
            "to split its environments among P members"
        )
    return task


def _evolution(arguments: Arguments) -> PBTConfig | None:
    """Returns how --pbt lets members evolve, or None."""
    names = ("perturbation_interval", "quantile_fraction")
    given = {
        k: parse_literal(str(arguments.flags[k])) for k in names if k in arguments.flags
    }
    if "pbt" in arguments.flags:
        return PBTConfig(**given)
    for name in given:
        raise ValueError(f"--{name} is for --pbt: give that too, or leave it away")
    return None


def _stop_fraction(arguments: Arguments) -> float:
    text = str(arguments.flags.get("stop_bad", "0.0"))
    value = parse_literal(text)
    inside = isinstance(value, int | float) and 0 < value < 1
    if "stop_bad" in arguments.flags and not inside:
        raise ValueError(f"--stop_bad {text}: give a number between 0 and 1")
    return float(value)
