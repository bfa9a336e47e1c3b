"""An environment of mjlab, as the bridge takes it."""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ppo_jax.envs.curricula import progress_of, reset_with
from ppo_jax.envs.deployment import joined
from ppo_jax.envs.dlpack import Tensor
from ppo_jax.envs.episode_log import EpisodeLog
from ppo_jax.envs.gym_spaces import flatten_groups
from ppo_jax.envs.torch_env import TorchEnv
from ppo_jax.options import MAX_INT32
from ppo_jax.types import Continuous, EnvInfo, TimeStep

NUM_WARM_UP_STEPS = 2  # Warp compiles and captures in them, outside of any program


class MjlabEnv(TorchEnv):
    """A ManagerBasedRlEnv as a `TorchEnv`.

    Where the environment does not reset itself (`auto_reset=False`), this does so after
    each step, for those that ended: what the step observed is then the observation
    before the reset, and the value after a time-out that of the state in which it came.
    What comes out is not checked for NaN here: the rollout names the group and the
    environments.

    Where the task has a finite horizon its time-outs are terminations: nothing has a
    value beyond them.
    """

    def __init__(self, mjlab: Any, clip_actions: float | None = None) -> None:
        """Takes a few steps, in which Warp compiles, and leaves no trace of them."""
        import torch

        self.mjlab = mjlab
        self.clip_actions = clip_actions
        self.device = torch.device(mjlab.device)
        self.info = EnvInfo(
            num_envs=mjlab.num_envs,
            action_space=Continuous(mjlab.action_manager.total_action_dim),
            max_episode_length=min(mjlab.max_episode_length, MAX_INT32),
            step_dt=float(mjlab.step_dt),
        )
        self._log = EpisodeLog()
        self._progress: dict[str, Any] = {}  # of curricula, to go on from
        self._warm_up()

    @property
    def has_final_obs(self) -> bool:
        """Whether the environments are reset here, after they were observed."""
        return not self.mjlab.cfg.auto_reset

    def reset(self, seed: int) -> dict[str, Tensor]:
        """Seeds torch, numpy, random and Warp, and starts every environment anew."""
        with contextlib.redirect_stdout(sys.stderr):  # mjlab says which seed it is
            obs, _ = self._reset_all(seed)
        self._log = EpisodeLog()
        return dict(flatten_groups(obs, None))

    def step(self, action: Tensor) -> TimeStep:
        """Steps every environment; those that end start anew in the same step."""
        import torch

        if self.clip_actions is not None:
            action = action.clamp(-self.clip_actions, self.clip_actions)
        result = self.mjlab.step(action)
        obs, reward, terminated, truncated, extras = result
        obs, log = dict(flatten_groups(obs, None)), dict(extras["log"])
        done = terminated | truncated
        final_obs = obs if self.has_final_obs else None
        if self.has_final_obs and bool(done.any()):
            final_obs = {name: x.clone() for name, x in obs.items()}
            reset_obs, reset_log = self._reset_those(done)
            log |= reset_log
            obs = {
                name: torch.where(
                    done.reshape((-1,) + (1,) * (x.ndim - 1)), reset_obs[name], x
                )
                for name, x in final_obs.items()
            }
        self._log.add(log, done)
        if self.mjlab.cfg.is_finite_horizon:
            terminated, truncated = done, torch.zeros_like(done)
        return TimeStep(obs, reward, terminated, truncated, final_obs, log={})

    def set_episode_length(self, length: Tensor) -> None:
        """Sets how many steps of each episode count as taken; mjlab keeps int64."""
        self.mjlab.episode_length_buf[:] = length.long()

    def drain_log(self) -> dict[str, float]:
        """Returns the means of what the task logged since the last call."""
        return self._log.drain()

    def frame(self) -> Any:
        """Returns a picture [height, width, 3] uint8; needs `film`."""
        return self.mjlab.render()

    def open_scene(self, server: Any) -> Any:
        """Returns the environments as a page of viser shows them."""
        from ppo_jax.envs.mjlab_scene import MjlabScene

        return MjlabScene(server, self.mjlab)

    def guard_nan(self, folder: Path) -> None:
        """Has mjlab keep the last states, and write them there when they break."""
        from mjlab.utils.nan_guard import NanGuard

        sim = self.mjlab.sim
        cfg = replace(sim.cfg.nan_guard, enabled=True, output_dir=str(folder))
        sim.nan_guard = NanGuard(cfg, self.num_envs, sim.mj_model)

    def dump_nan(self, env_ids: Sequence[int]) -> Path:
        """Returns what mjlab has written.

        Its guard looks at the physics; where that is in order and an observation is
        not, it is asked to write what it has of these environments.
        """
        guard = self.mjlab.sim.nan_guard
        newest = guard.output_dir / "nan_dump_latest.npz"
        with contextlib.redirect_stdout(sys.stderr):
            if not newest.exists():
                guard._dump_buffer(list(env_ids))
        return newest.resolve()

    def save_config(self, path: Path) -> None:
        """Writes the task's configuration, with all that was changed, as YAML."""
        from mjlab.utils.os import dump_yaml

        dump_yaml(path, asdict(self.mjlab.cfg))

    def deployment(self, groups: Sequence[str]) -> dict[str, str]:
        """Returns what mjlab itself writes into the policy of a robot's joints.

        A task without a "robot" whose "joint_pos" are its actions tells nothing, and of
        observations it tells those of the group "actor" alone.
        """
        from mjlab.rl.exporter_utils import get_base_metadata

        try:
            facts = get_base_metadata(self.mjlab, run_path="")
        except (AssertionError, KeyError, ValueError):
            return {}
        facts.pop("run_path")
        return {
            name: joined(value) if isinstance(value, list) else str(value)
            for name, value in facts.items()
            if not name.startswith("observation_") or list(groups) == ["actor"]
        }

    def state_dict(self) -> dict[str, Any]:
        """Returns how far the curricula are."""
        return progress_of(self.mjlab)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with the curricula where they were, from the next reset on."""
        self._progress = state

    def close(self) -> None:
        """Closes the environment; twice does nothing."""
        self._log = EpisodeLog()
        self.mjlab.close()

    def _reset_all(self, seed: int) -> tuple[Any, Any]:
        progress, self._progress = self._progress, {}
        if progress:
            return reset_with(self.mjlab, progress, seed)
        return self.mjlab.reset(seed=seed)

    def _reset_those(self, done: Tensor) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Resets some; returns what all observe then, and what was logged of them.

        Only the observations of those that were reset count: the others have new noise.
        """
        env_ids = done.nonzero().squeeze(-1)
        self.mjlab.recorder_manager.record_pre_reset(env_ids)
        obs, extras = self.mjlab.reset(env_ids=env_ids)
        return dict(flatten_groups(obs, None)), extras["log"]

    def _warm_up(self) -> None:
        import torch

        self.reset(0)
        num_actions = self.mjlab.action_manager.total_action_dim
        zeros = torch.zeros(self.num_envs, num_actions, device=self.device)
        with contextlib.redirect_stdout(sys.stderr):  # Warp says what it compiles
            for _ in range(NUM_WARM_UP_STEPS):
                self.step(zeros)
        self.mjlab.common_step_counter = 0  # curricula read it
