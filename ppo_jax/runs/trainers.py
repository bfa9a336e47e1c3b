"""A configuration and its environments, bound to the algorithm: what a loop runs."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from ppo_jax.learning.algorithm import Algorithm
from ppo_jax.learning.distillation import Learned, make_distillation
from ppo_jax.learning.ppo import PPO, jitted, make_ppo
from ppo_jax.learning.rnd import make_rnd
from ppo_jax.learning.symmetry import symmetry_of
from ppo_jax.learning.symmetry_check import check_augmentation
from ppo_jax.loops import evaluation, shards
from ppo_jax.loops.programs import jit, simulator_errors
from ppo_jax.loops.rollout import host_scan
from ppo_jax.loops.training import init_run, iterate, learn_from
from ppo_jax.runs import devices, processes
from ppo_jax.runs.config import (
    Config,
    DistillationAlgorithm,
    hyperparams,
    parts_of,
)
from ppo_jax.runs.students import networks_of
from ppo_jax.types import Env, Hyperparams, Key, RunState, Simulator, TrainState


class Trainer(NamedTuple):
    """What a configuration and its environments make: the algorithm, ready to run."""

    config: Config
    env: Env
    ppo: Algorithm
    hparams: Hyperparams  # of arrays: another value does not compile anew
    init: Any  # a `compiling.Program`: (key) -> RunState
    iterate: Any  # likewise: (run, hparams) -> (run, metrics); donates the run
    mesh: Mesh | None = None  # of the devices that learn together, see `runs.devices`

    @property
    def num_envs(self) -> int:
        """N, the environments of all devices."""
        return self.env.num_envs * devices.size(self.mesh)

    @property
    def loops_on_host(self) -> bool:
        """Whether the env cannot be jitted: `init` and `iterate` then give shapes."""
        return isinstance(self.env, Simulator) and not self.env.is_traceable


def make_trainer(
    config: Config,
    env: Env,
    teacher: Learned | None = None,
    mesh: Mesh | None = None,
    keep_trail: bool = False,
) -> Trainer:
    """Returns the algorithm for a configuration and its environments.

    Args:
      config: of the run.
      env: the environments, those of one device.
      teacher: what the teacher of a distillation has learned, see `make_distillation`.
      mesh: the devices that learn together, see `devices.mesh_for`; None: one.
      keep_trail: an iteration returns the states of environments in JAX as well, see
        `rollout.collect`; on one device.

    Raises:
      ValueError: the configured symmetry is none, or is not one of these environments.
    """
    traced = env.traceable() if isinstance(env, Simulator) else env
    axis = shards.AXIS if mesh else None
    if isinstance(config.algorithm, DistillationAlgorithm):
        _, obs = _shapes_of(traced.reset, config.seed)
        networks = networks_of(config, env.action_space, obs)
        ppo = make_distillation(*networks, config.algorithm, teacher, axis)
    else:
        ppo = _make_ppo(config, traced, axis)
    numbers = jax.tree.map(np.float32, hyperparams(config.algorithm))
    hparams = jax.device_put(numbers)  # what jnp.float32 does, and it would compile
    init = partial(
        init_run,
        ppo,
        traced,
        hparams,
        init_at_random_ep_len=config.init_at_random_ep_len,
    )
    step = partial(
        iterate,
        ppo,
        traced,
        config.num_steps_per_env,
        axis=axis,
        keep_trail=keep_trail,
    )
    if mesh:
        init, step = shards.start_on(mesh, init), shards.iterate_on(mesh, step)
        hparams = devices.place_same(mesh, hparams)
    init, step = jit(env, init, once=True), jit(env, step, donate_argnums=0)
    return Trainer(config, env, ppo, hparams, init, step, mesh)


def _make_ppo(config: Config, env: Env, axis: str | None) -> PPO:
    """Returns PPO, its symmetry tried on observations of the environments."""
    network, ppo_config, _ = parts_of(config, env.action_space)
    symmetry, rnd, rnd_cfg = None, None, ppo_config.rnd_cfg
    if ppo_config.symmetry_cfg:
        _, obs = _shapes_of(env.reset, config.seed)
        in_torch = getattr(env, "symmetry", None)  # of a simulator
        take_over = partial(in_torch, obs=obs) if in_torch else None
        symmetry = symmetry_of(ppo_config.symmetry_cfg, take_over)
        check_augmentation(symmetry.augment, obs, env.action_space)
    if rnd_cfg:
        rnd = make_rnd(rnd_cfg, env.step_dt, config.obs_groups, axis)
    return make_ppo(network, ppo_config, symmetry=symmetry, rnd=rnd, axis=axis)


def start(trainer: Trainer, key: Key | None = None) -> RunState:
    """Returns a run before its first iteration; the configured seed without a key."""
    if key is None:
        key = jax.random.key(trainer.config.seed)
    at_random = trainer.config.init_at_random_ep_len
    with simulator_errors(trainer.env, num_calls=1 + at_random):
        if not trainer.loops_on_host:
            key = devices.place_same(trainer.mesh, key)
            return jax.block_until_ready(trainer.init(key))
        ppo, env, hparams = jitted(trainer.ppo), trainer.env, trainer.hparams
        if trainer.mesh is None:
            return init_run(ppo, env, hparams, key, at_random)
        hparams = devices.here(trainer.mesh, hparams)
        run = init_run(ppo, env, hparams, key, at_random, processes.index())
        return shards.to_all(trainer.mesh, run)


def step_on_host(trainer: Trainer) -> Any:
    """Returns `Trainer.iterate` as a loop on the host, for what cannot be jitted.

    It also takes `on_collected`, see `iterate`. Along a mesh each process steps its own
    simulator; all learn in one program.
    """
    env, num_steps, mesh = trainer.env, trainer.config.num_steps_per_env, trainer.mesh
    step = partial(iterate, jitted(trainer.ppo), env, num_steps, scan=host_scan)
    if mesh is None:
        return step
    learn = partial(learn_from, trainer.ppo, shards.AXIS)
    learn = shards.learn_on(mesh, learn)

    def along(run: RunState, hparams: Hyperparams, **how: Any) -> Any:
        mine, metrics = step(shards.to_one(run), hparams, learn=learn, **how)
        return shards.to_all(mesh, mine), metrics

    return along


def abstract_run(trainer: Trainer) -> RunState:
    """Returns the state of a run as shapes and types.

    Raises:
      ValueError: the configuration does not fit the environment.
    """
    run = _shapes_of(trainer.init, trainer.config.seed)
    return devices.as_shapes(trainer.mesh, run)


def _shapes_of(function: Callable[[Key], Any], seed: int) -> Any:
    """Returns what a function of a key gives, as shapes; to make a key compiles."""
    return jax.eval_shape(function, _shape_of_key(seed))


def _shape_of_key(seed: int) -> Any:
    return jax.eval_shape(jax.random.key, seed)


def lower(trainer: Trainer, starts: bool = False) -> Any:
    """Returns one iteration, traced but not compiled; a second call costs nothing.

    Args:
      trainer: of the task.
      starts: `start` comes next, and its program is compiled meanwhile.

    Raises:
      ValueError: the configuration does not fit the environment.
    """
    if starts and not trainer.mesh and not isinstance(trainer.env, Simulator):
        trainer.init.compile_ahead(_shape_of_key(trainer.config.seed))
    return trainer.iterate.lower(abstract_run(trainer), trainer.hparams)


def evaluate(
    trainer: Trainer, state: TrainState, key: Key
) -> tuple[evaluation.Evaluation, dict[str, float]]:
    """Plays an episode in every environment with the deterministic policy.

    Returns:
      How they went, and {tag: mean} of what a simulator logged meanwhile.
    """
    env = trainer.env
    with simulator_errors(env, num_calls=1 + env.max_episode_length):
        if trainer.loops_on_host:
            ppo = jitted(trainer.ppo)
            result = evaluation.evaluate(ppo, env, state, key, scan=host_scan)
        else:
            play = jit(env, evaluation.evaluate, static_argnums=(0, 1))
            result = play(trainer.ppo, env, state, key)
        result = jax.device_get(result)  # numbers to print: nothing more to compile
    return result, env.drain_log() if isinstance(env, Simulator) else {}
