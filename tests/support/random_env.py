"""As much of an environment as rsl_rl's runner asks for."""

from types import SimpleNamespace

import numpy as np
import torch
from tensordict import TensorDict


class RandomEnv:
    """Random observations and ends; nothing is learned.

    Args:
      draw_obs: (generator, N) to {group: [N, ...]} as NumPy arrays.
      num_envs: N.
      num_actions: A.
    """

    max_episode_length = 10
    device, cfg = "cpu", SimpleNamespace()

    def __init__(self, draw_obs, num_envs, num_actions):
        self.draw_obs, self.num_envs, self.num_actions = draw_obs, num_envs, num_actions
        self.episode_length_buf = torch.zeros(num_envs, dtype=torch.long)
        self.rng = np.random.default_rng(0)

    def get_observations(self):
        return TensorDict(self.draw_obs(self.rng, self.num_envs), [self.num_envs])

    def step(self, actions):
        done = torch.tensor(self.rng.random(self.num_envs) < 0.2)
        reward = -actions.square().sum(dim=-1)
        return self.get_observations(), reward, done.long(), {"time_outs": done}
