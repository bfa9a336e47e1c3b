"""The programs of a sweep, compiled when they are first needed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import jax
import numpy as np

from ppo_jax.loops.pbt import evolve
from ppo_jax.loops.population import Population, make_population
from ppo_jax.runs import teachers, trainers
from ppo_jax.runs.config import Config, hyperparams
from ppo_jax.runs.students import is_distillation
from ppo_jax.sweeps import compiling
from ppo_jax.sweeps.compiling import Compiled
from ppo_jax.sweeps.planning import (
    Member,
    Program,
    Sweep,
    block_length,
    chunk_rows,
    config_of,
    programs_of,
)
from ppo_jax.types import Env, Hyperparams

MakeEnv = Callable[[Config], Env]
Programs = dict[tuple[int, int], Compiled]  # {(program, rows of a chunk): compiled}


def compile_programs(
    sweep: Sweep, make_env: MakeEnv, chunk_size: int = 0
) -> tuple[Sweep, Programs]:
    """Compiles every program for its first stage.

    Args:
      sweep: without chunk limits.
      make_env: returns the environments of a configuration.
      chunk_size: the most members at a time; 0: as many as fit the memory, or, of a
        population, all of them.

    Returns:
      The sweep with its chunk limits, and the programs.
    """
    compiled, limits = {}, []
    chunk_size = chunk_size or sweep.population
    for number, program in enumerate(programs_of(sweep)):
        members = len(program.settings) * sweep.num_seeds
        functions = population_of(sweep, program, make_env)
        if chunk_size:
            rows = chunk_rows(members, chunk_size)
            made = compiling.compile_population(functions, rows)
        else:
            made = compiling.compile_what_fits(functions, members)
            rows = chunk_rows(members, min(made.size, members))
        compiled[number, rows] = made
        limits.append(rows)
    return replace(sweep, chunk_limits=tuple(limits)), compiled


def population_of(sweep: Sweep, program: Program, make_env: MakeEnv) -> Population:
    """Returns the functions of a program, not compiled.

    A population runs on one device: that of its simulator, or where its members meet.

    Raises:
      ValueError: the configuration does not fit the environment.
    """
    config = program.config
    trainer = trainers.make_trainer(config, make_env(config))
    trainers.abstract_run(trainer)
    if is_distillation(config):
        teacher = teachers.load_teacher(trainer)
        trainer = trainers.make_trainer(config, trainer.env, teacher)
    return make_population(
        trainer.ppo,
        trainer.env,
        config.num_steps_per_env,
        block_length(sweep, config),
        config.init_at_random_ep_len,
        devices=jax.local_devices()[:1] if sweep.population else None,
        evolve=partial(evolve, sweep.pbt, config.max_iterations) if sweep.pbt else None,
    )


def hyperparams_of(sweep: Sweep, members: Sequence[Member]) -> Hyperparams:
    """Returns the dynamic scalars of some members, each [P]."""
    of_setting = {
        setting: hyperparams(config_of(sweep, setting).algorithm)
        for setting in {member.setting for member in members}
    }
    rows = [of_setting[member.setting] for member in members]
    return Hyperparams(*np.array(rows, np.float32).T)
