"""From a task's name to its configuration, its environments and its trainer.

A task is either JAX-native (`ppo_jax.envs.TASKS` and the adapters) or a simulator's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ppo_jax.cli import command_line, entry
from ppo_jax.cli.command_line import Arguments, Flag
from ppo_jax.cli.simulators import AGENT_TOKENS, backend_of
from ppo_jax.runs.config import Config, SimulatorConfig

if TYPE_CHECKING:
    from ppo_jax.types import Env

DEFAULT_TASK = "Cartpole"


def parse(
    argv: Sequence[str],
    flags: Sequence[Flag],
    fields: bool = True,
    agent: bool = False,
) -> Arguments:
    """Reads a command line; what is for the task's simulator is left to it.

    Args:
      argv: as typed.
      flags: of the script.
      fields: fields of the configuration may be given as well.
      agent: what begins with "agent." is for the agent that the task registers.
    """
    task = command_line.peek(argv, "task")
    backend = backend_of(task) if task is not None else None
    if backend is None:
        return command_line.parse(argv, flags, fields)
    foreign = backend.tokens + (AGENT_TOKENS if agent else ())
    argv = command_line.with_tokens(argv, foreign)
    return command_line.parse(argv, flags, fields, foreign)


def checked_task(flags: Mapping[str, Any]) -> str:
    """Returns the task that flags name.

    Raises:
      ValueError: there is no such task; names the nearest.
      ImportError: it needs a package that is not installed; names it.
    """
    from ppo_jax.configs import CONFIGS
    from ppo_jax.envs import make_task

    task = str(flags.get("task", DEFAULT_TASK))
    if task not in CONFIGS and backend_of(task) is None:
        make_task(task)
    return task


def default_config(task: str, agent: str = "", tokens: Sequence[str] = ()) -> Config:
    """Returns the configuration of a task before the command line changes it.

    Args:
      task: a name that `checked_task` returned.
      agent: key of Isaac Lab's registration; empty: chosen.
      tokens: for the task's simulator; kept in the configuration, so that the same
        environments are made when the run is resumed or played.
    """
    from ppo_jax.configs import config_for

    backend = backend_of(task)
    return backend.config(task, agent, tokens) if backend else config_for(task)


def make_env(
    config: Config,
    num_envs: int | None = None,
    play_mode: bool = False,
    film: bool = False,
) -> "Env":
    """Returns the environments of a configuration.

    Args:
      config: of a run.
      num_envs: N, where it is not the configured one.
      play_mode: as a simulator changes its tasks for playing.
      film: make pictures of a simulator possible.

    Raises:
      ValueError: a JAX-native task is given settings of a simulator.
    """
    from ppo_jax.envs import make

    num_envs = num_envs or config.num_envs
    backend = backend_of(config.task)
    if backend:
        return backend.make_env(
            config, num_envs=num_envs, play_mode=play_mode, film=film
        )
    if config.simulator != SimulatorConfig():
        raise ValueError(
            f"{config.task} runs in JAX, without a simulator: leave device, bridge "
            "and agent away (JAX_PLATFORMS=cpu keeps JAX on the CPU)"
        )
    return make(config.task, num_envs, config.clip_actions)


def make_trainer(
    config: Config,
    num_envs: int | None = None,
    spread: bool = False,
    dump_nan: bool = False,
    **how: bool,
) -> Any:
    """Returns the algorithm and its environments; see `make_env`.

    Args:
      config: of a run.
      num_envs: N, where it is not the configured one.
      spread: over the configured devices, see `devices.mesh_for`; else on one.
      dump_nan: keep the last states of the environments, see `dumping`.
      **how: see `make_env`.
    """
    from ppo_jax.cli import dumping
    from ppo_jax.runs import devices, trainers

    is_simulated, mesh = backend_of(config.task) is not None, None
    if spread:
        mesh = devices.mesh_for(config, is_simulated)
        if not is_simulated:  # a simulator's number is that of each
            num_envs = config.num_envs // devices.size(mesh)
    env = make_env(config, num_envs, **how)
    if dump_nan and is_simulated:
        dumping.remember(env, config)
    keep_trail = dump_nan and not is_simulated
    return trainers.make_trainer(config, env, mesh=mesh, keep_trail=keep_trail)


@contextmanager
def open_trainer(
    config: Config, num_envs: int | None = None, **how: bool
) -> Iterator[Any]:
    """Gives what `make_trainer` returns, and ends its simulator afterwards."""
    from ppo_jax.types import Simulator

    entry.use_compilation_cache()
    trainer = make_trainer(config, num_envs, **how)
    entry.collect_again()
    try:
        yield trainer
    finally:
        if isinstance(trainer.env, Simulator):
            trainer.env.close()


@contextmanager
def open_members(
    config: Config, population: int
) -> "Iterator[Callable[[Config], Env]]":
    """Gives a function that returns the environments of one member of a sweep.

    The members of a population share one simulator, which ends afterwards. In JAX each
    has environments of its own.

    Args:
      config: of a member.
      population: members side by side.
    """
    entry.use_compilation_cache()
    entry.collect_again()
    if backend_of(config.task) is None:
        yield make_env
        return
    from ppo_jax.envs.sharing import share

    simulator: Any = make_env(config, config.num_envs * population)
    try:
        yield lambda _: share(simulator, population)
    finally:
        simulator.close()
