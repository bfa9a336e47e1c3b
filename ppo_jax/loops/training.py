"""The whole run as pure functions: start, one iteration, all iterations."""

from collections.abc import Callable
from functools import partial

import jax

from ppo_jax.learning.algorithm import Algorithm
from ppo_jax.loops.episodes import init_episodes, over_shards
from ppo_jax.loops.rollout import Scan, collect
from ppo_jax.policies.shards import Axis, own_key
from ppo_jax.types import Array, Env, Hyperparams, Key, Metrics, Rollout, RunState

# (run, rollout, metrics of it, hparams, key) -> (run, metrics)
Learn = Callable[..., tuple[RunState, Metrics]]


def init_run(
    ppo: Algorithm,
    env: Env,
    hparams: Hyperparams,
    key: Key,
    init_at_random_ep_len: bool = True,
    shard: Array | int = 0,
) -> RunState:
    """Returns the state of a run before its first iteration.

    Args:
      ppo: the algorithm.
      env: the environments.
      hparams: gives the learning rate to start from.
      key: for everything random in this run.
      init_at_random_ep_len: start each environment at a random point of its time
        limit, so that the first episodes do not all end in the same step.
      shard: number of this one, where many learn one policy: they begin with the same
        weights, and draw different numbers from then on.
    """
    key, env_key, length_key, weight_key = jax.random.split(key, 4)
    own = [own_key(k, shard) for k in (key, env_key, length_key)]
    key, env_key, length_key = own
    env_state, obs = env.reset(env_key)
    if init_at_random_ep_len:
        env_state = env.randomize_episode_length(env_state, length_key)
    return RunState(
        train=ppo.init(weight_key, obs, hparams),
        env_state=env_state,
        obs=obs,
        carry=ppo.initial_carry(obs),
        episodes=init_episodes(env.num_envs),
        key=key,
        rnd=ppo.rnd.start(obs) if ppo.rnd else (),
    )


def iterate(
    ppo: Algorithm,
    env: Env,
    num_steps: int,
    run: RunState,
    hparams: Hyperparams,
    scan: Scan = jax.lax.scan,
    on_collected: Callable[[], None] = lambda: None,
    axis: Axis = None,
    keep_trail: bool = False,
    learn: Learn | None = None,
) -> tuple[RunState, Metrics]:
    """Runs one iteration: `num_steps` steps of every environment, then the update.

    Where the loop runs on the host `on_collected` is called between the two. Along a
    mesh axis, which is also `make_ppo`'s, each shard steps environments of its own, and
    all learn from all of them. With `keep_trail` the metrics have the states of
    environments in JAX too, see `collect`. `learn` is `learn_from`, where it is to be
    another program than what is around it.

    Returns:
      The run after it, and the metrics of `collect` and `PPO.update`.
    """
    key, act_key, update_key = jax.random.split(run.key, 3)
    run, rollout, episode_metrics = collect(
        ppo, env, num_steps, run, act_key, scan, keep_trail
    )
    on_collected()
    if learn is None:
        learn = partial(learn_from, ppo, axis)
    run, metrics = learn(run, rollout, episode_metrics, hparams, update_key)
    return run._replace(key=key), metrics


def learn_from(
    ppo: Algorithm,
    axis: Axis,
    run: RunState,
    rollout: Rollout,
    episode_metrics: Metrics,
    hparams: Hyperparams,
    update_key: Key,
) -> tuple[RunState, Metrics]:
    """Returns the run after the update, and all metrics: what `collect` does not do."""
    num_envs = len(run.episodes.episode_return)
    episode_metrics = over_shards(axis, episode_metrics, num_envs)
    if ppo.rnd is not None:
        sums, rollout, rnd_metrics = ppo.rnd.reward(run.train.rnd, run.rnd, rollout)
        run, episode_metrics = run._replace(rnd=sums), episode_metrics | rnd_metrics
    arguments = run.train, hparams, rollout, update_key
    if ppo.update_with_memory is None:
        train, metrics = ppo.update(*arguments)
    else:
        train, carry, metrics = ppo.update_with_memory(*arguments)
        run = run._replace(carry=carry)
    return run._replace(train=train), episode_metrics | metrics


def train(
    ppo: Algorithm,
    env: Env,
    num_steps: int,
    num_iterations: int,
    key: Key,
    hparams: Hyperparams = Hyperparams(),
) -> tuple[RunState, Metrics]:
    """Trains from scratch; pure: `jit` it, `vmap` it over keys and hyper-parameters.

    Args:
      ppo: the algorithm.
      env: environments that can be traced.
      num_steps: T, steps of every environment per iteration.
      num_iterations: I, how many.
      key: for everything random.
      hparams: dynamic scalars, each [] (or mapped by `vmap`).

    Returns:
      The run after the last iteration, and metrics [I, ...]; read them `with_gaps`.
    """
    run = init_run(ppo, env, hparams, key)

    def body(run: RunState, _: None) -> tuple[RunState, Metrics]:
        return iterate(ppo, env, num_steps, run, hparams)

    return jax.lax.scan(body, run, length=num_iterations)
