"""What a simulator went through in its last steps, kept for when something breaks."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from ppo_jax.envs.dlpack import Tensor
from ppo_jax.envs.torch_env import TorchEnv
from ppo_jax.types import TimeStep


class Remembering:
    """A `TorchEnv` that keeps what its last steps were; the rest is as it was.

    Its `states` gives what can be put back by `set_states`.
    """

    def __init__(self, torch_env: TorchEnv, num_steps: int) -> None:
        """Keeps `num_steps` steps.

        Raises:
          ValueError: the environment does not tell its state.
        """
        if not hasattr(torch_env, "states"):
            raise ValueError(
                f"--dump_nan: {type(torch_env).__name__} has no method `states` that "
                "returns {name: [num_envs, ...]}: define it, or leave --dump_nan away"
            )
        self._torch_env: Any = torch_env
        self._steps: deque[dict[str, Any]] = deque(maxlen=num_steps)
        self._obs: dict[str, Tensor] = {}

    def __getattr__(self, name: str) -> Any:
        """Returns what the environment itself has."""
        return getattr(self._torch_env, name)

    def reset(self, seed: int) -> dict[str, Tensor]:
        """Starts every environment anew, and forgets what was before."""
        self._steps.clear()
        obs = self._torch_env.reset(seed)
        self._obs = _copy(obs)
        return obs

    def step(self, action: Tensor) -> TimeStep:
        """Steps every environment, and notes from where."""
        noted = {"states": _copy(self._torch_env.states()), "obs": self._obs}
        noted["action"] = action.clone()
        timestep = self._torch_env.step(action)
        noted["reward"] = timestep.reward.clone()
        noted["done"] = timestep.terminated.bool() | timestep.truncated.bool()
        self._obs = _copy(timestep.obs)
        self._steps.append(noted)
        return timestep

    def trail_of(self, env_ids: Sequence[int]) -> dict[str, Any]:
        """Returns what some environments, E of them, went through in S steps.

        Returns:
          {"states": {name: [S + 1, E, ...]}, "obs": {group: [S + 1, E, ...]}, "action",
          "reward" and "done": [S, E, ...]}, arrays on the host.
        """
        ids, steps = list(env_ids), list(self._steps)
        last = {"states": _copy(self._torch_env.states()), "obs": self._obs}
        trail: dict[str, Any] = {
            part: {
                name: np.stack([_numpy(x[part][name], ids) for x in [*steps, last]])
                for name in last[part]
            }
            for part in ("states", "obs")
        }
        for name in ("action", "reward", "done"):
            trail[name] = np.stack([_numpy(x[name], ids) for x in steps])
        return trail


def _copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in tensors.items()}


def _numpy(x: Tensor, ids: list[int]) -> np.ndarray:
    return x[ids].detach().cpu().numpy()
