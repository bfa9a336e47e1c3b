"""What of a run outlives its process, and how a run goes on from that.

All of it, unless a simulator steps the environments: what only that knows is not saved.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax

from ppo_jax.runs import devices, processes
from ppo_jax.runs.trainers import Trainer, start
from ppo_jax.types import Env, RunState, Simulator, TrainState


def saved_part(trainer: Trainer, run: RunState) -> RunState:
    """Returns what a checkpoint holds: all, but not what only a simulator knows."""
    return without_simulator(run) if isinstance(trainer.env, Simulator) else run


def without_simulator(run: RunState) -> RunState:
    """Returns what of a run, or of many, outlives its simulator."""
    episodes = run.episodes._replace(episode_return=(), episode_length=())
    return run._replace(env_state=(), obs={}, carry=(), episodes=episodes)


def with_simulator(saved: RunState, fresh: RunState) -> RunState:
    """Returns what `without_simulator` gave, with the episodes of a fresh start."""
    episodes = saved.episodes._replace(
        episode_return=fresh.episodes.episode_return,
        episode_length=fresh.episodes.episode_length,
    )
    began = {name: getattr(fresh, name) for name in ("env_state", "obs", "carry")}
    return saved._replace(episodes=episodes, **began)


def about_simulator(env: Env) -> dict[str, Any]:
    """Returns what is kept beside a run's arrays of the simulator that steps it."""
    if not isinstance(env, Simulator):
        return {}
    first, *others = processes.values_of_all(env.state_dict())
    return {"simulator": first} | ({"simulators": [first, *others]} if others else {})


def put_back(env: Env, about: Mapping[str, Any]) -> None:
    """Lets a simulator go on from what `about_simulator` kept, at its next reset."""
    if isinstance(env, Simulator):
        of_each = about.get("simulators", [])
        is_as_it_was = len(of_each) == processes.count()
        own = of_each[processes.index()] if is_as_it_was else about.get("simulator", {})
        env.load_state_dict(own)


def resume(
    trainer: Trainer,
    saved: RunState | TrainState,
    about: Mapping[str, Any] = MappingProxyType({}),
) -> RunState:
    """Returns a run that goes on from what `saved_part` kept.

    A simulator starts its episodes anew, and not with those that the run began with;
    its curricula go on where they were. On another number of devices all begins anew
    but what was learned.

    Args:
      trainer: of the run.
      saved: what was kept; of a run on another number of devices what was learned.
      about: what was kept beside it; `about_simulator` is read.
    """
    put_back(trainer.env, about)
    if isinstance(saved, RunState) and not isinstance(trainer.env, Simulator):
        return saved
    learned = saved.train if isinstance(saved, RunState) else saved
    seed = jax.random.key(trainer.config.seed)
    fresh = start(trainer, jax.random.fold_in(seed, learned.iteration))
    if isinstance(saved, TrainState):
        return fresh._replace(train=saved)
    return devices.place(trainer.mesh, with_simulator(saved, fresh))
