"""Simulators stepped with random actions, by both drivers: what all of them must do."""

import jax
import numpy as np

from ppo_jax.loops.rollout import host_scan
from ppo_jax.types import Discrete

DRIVERS = ["in_jit", "host"]
SCAN = {"in_jit": jax.lax.scan, "host": host_scan}


def draw_actions(env, num_steps, key):
    shape = (num_steps, env.num_envs)
    if isinstance(env.action_space, Discrete):
        return jax.random.randint(key, shape, 0, env.action_space.num_actions)
    return jax.random.normal(key, (*shape, env.action_space.dim))


def walk(env, num_steps, seed=0, random_lengths=False):
    """Steps with random actions; returns the first observation and all time steps."""

    def program():
        reset_key, length_key, action_key = jax.random.split(jax.random.key(seed), 3)
        env_state, obs = env.reset(reset_key)
        if random_lengths:
            env_state = env.randomize_episode_length(env_state, length_key)
        actions = draw_actions(env, num_steps, action_key)
        _, timesteps = SCAN[env.driver](env.step, env_state, actions)
        return obs, timesteps

    program = jax.jit(program) if env.driver == "in_jit" else program
    with env.errors():
        return jax.device_get(program())


def assert_equal_trees(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def assert_drivers_agree(make, task, num_steps, **kwargs):
    """Both drivers give the same to the last bit; returns what they give."""
    walks = []
    for driver in DRIVERS:
        env = make(task, driver=driver, **kwargs)
        walks.append(walk(env, num_steps, random_lengths=True))
        env.close()
    assert_equal_trees(*walks)
    for leaf in jax.tree.leaves(walks[0]):
        assert np.isfinite(leaf.astype(np.float32)).all()
    return walks[0]


class Poisoned:
    """Overwrites, before each step, everything that the simulator has returned."""

    def __init__(self, torch_env):
        self.torch_env = torch_env
        self.given = []

    def __getattr__(self, name):
        return getattr(self.torch_env, name)

    def step(self, action):
        import torch

        for tensor in self.given:
            tensor.fill_(float("nan") if tensor.is_floating_point() else True)
        timestep = jax.tree.map(torch.clone, self.torch_env.step(action))
        self.given = jax.tree.leaves(timestep)
        return timestep
