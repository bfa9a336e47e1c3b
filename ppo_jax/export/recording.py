"""What a trained policy sees when it is played: what an exported file is tried on."""

import jax

from ppo_jax.learning.ppo import jitted
from ppo_jax.loops.evaluation import Observed, observe_episodes
from ppo_jax.loops.programs import jit, simulator_errors
from ppo_jax.loops.rollout import host_scan
from ppo_jax.runs.trainers import Trainer
from ppo_jax.types import Key, TrainState

NUM_OBSERVATIONS = 1000


def observe(
    trainer: Trainer, state: TrainState, key: Key, num: int = NUM_OBSERVATIONS
) -> Observed:
    """Plays until `num` observations or more are there: whole episodes where it can.

    Args:
      trainer: from `make_trainer`.
      state: what was learned.
      key: of the episodes.
      num: how many observations; fewer if all environments together see fewer.
    """
    env = trainer.env
    num_steps = min(env.max_episode_length, num)
    num_kept = min(-(-num // num_steps), env.num_envs)
    if trainer.loops_on_host:
        ppo = jitted(trainer.ppo)
        return observe_episodes(
            ppo, env, num_steps, num_kept, state, key, scan=host_scan
        )
    play = jit(env, observe_episodes, static_argnums=(0, 1, 2, 3))
    with simulator_errors(env, num_calls=1 + num_steps):
        return jax.block_until_ready(
            play(trainer.ppo, env, num_steps, num_kept, state, key)
        )
