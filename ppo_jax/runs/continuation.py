"""What of a run outlives its process, and how a run goes on from that.

All of it, unless a simulator steps the environments: what only that knows is not saved.
"""

import jax

from ppo_jax.runs.trainers import Trainer, start
from ppo_jax.types import RunState, Simulator


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


def resume(trainer: Trainer, saved: RunState) -> RunState:
    """Returns a run that goes on from what `saved_part` kept.

    A simulator starts its episodes anew, and not with those that the run began with.
    """
    if not isinstance(trainer.env, Simulator):
        return saved
    seed = jax.random.key(trainer.config.seed)
    fresh = start(trainer, jax.random.fold_in(seed, saved.train.iteration))
    return with_simulator(saved, fresh)
