"""Gymnasium's vector environments of torch tensors, as the bridge takes them."""

from collections.abc import Mapping
from typing import Any

from ppo_jax.envs.dlpack import Tensor
from ppo_jax.envs.episode_log import EpisodeLog
from ppo_jax.envs.gym_spaces import action_space, flatten_groups
from ppo_jax.envs.torch_env import TorchEnv
from ppo_jax.types import Discrete, EnvInfo, TimeStep

GROUP = "policy"  # of observations that are one tensor
FINAL = ("final_observation", "final_obs")  # what `info` calls it
LENGTHS = ("episode_length_buf", "elapsed_steps")  # steps taken, [N], to be written to


class GymnasiumTorchEnv(TorchEnv):
    """A `gymnasium.vector.VectorEnv` whose observations and rewards are tensors.

    Two of Gymnasium's ways to end an episode are understood. Where the environments
    reset themselves in the same step, as ManiSkill's do, `info` has the observation
    before it under "final_observation" or "final_obs", of all environments; where they
    do not (`AutoresetMode.DISABLED`), this resets those that ended by
    `reset(options={"reset_mask": done})`. Observations that are one tensor are the
    group "policy"; entries of a dictionary are groups, and what is nested in them is
    "group/part". What `info["final_info"]["episode"]` holds is logged where one ended.
    """

    def __init__(
        self,
        env: Any,
        name: str = "the environment",
        has_final_obs: bool = True,
        clip_actions: float | None = None,
    ) -> None:
        """Describes an environment.

        Args:
          env: of Gymnasium.
          name: how messages call it.
          has_final_obs: the value after a time-out is that of the observation before
            the reset; False: of the last one, as in rsl_rl.
          clip_actions: it sees continuous actions clipped to +- this; None: as is.

        Raises:
          ValueError: it resets in the next step, has no time limit, or its action
            space cannot be used.
        """
        import torch

        self.env = env
        self.name = name
        self.has_final_obs = has_final_obs
        self.clip_actions = clip_actions
        self.device = torch.device(getattr(env, "device", None) or "cpu")
        mode = str(env.metadata.get("autoreset_mode", "SameStep"))
        if "NEXT" in mode.upper():
            raise ValueError(
                f"{name} resets in the step after an end (AutoresetMode.NEXT_STEP): "
                "make it with AutoresetMode.SAME_STEP or DISABLED"
            )
        self._resets_itself = "DISABLED" not in mode.upper()
        self.info = EnvInfo(
            num_envs=int(env.num_envs),
            action_space=action_space(name, env.single_action_space),
            max_episode_length=_time_limit(name, env),
            step_dt=_step_dt(env),
        )
        self._log = EpisodeLog()

    def reset(self, seed: int) -> dict[str, Tensor]:
        """Starts every environment anew."""
        obs, _ = self.env.reset(seed=seed)
        self._log = EpisodeLog()
        return self._groups(obs)

    def step(self, action: Tensor) -> TimeStep:
        """Steps every environment; those that end start anew in the same step."""
        import torch

        result = self.env.step(self._given(action))
        obs, reward, terminated, truncated, info = result
        obs = self._groups(obs)
        terminated = torch.as_tensor(terminated).reshape(-1).bool()
        truncated = torch.as_tensor(truncated).reshape(-1).bool()
        done = terminated | truncated
        final_obs = obs if self.has_final_obs else None
        if bool(done.any()):
            self._log.add(_log_of(info, done), done)
            obs, final_obs = self._ends(obs, info, done)
        reward = torch.as_tensor(reward).reshape(-1).float()
        return TimeStep(obs, reward, terminated, truncated, final_obs, log={})

    def set_episode_length(self, length: Tensor) -> None:
        """Sets how many steps of each episode count as taken, where that is public.

        Raises:
          ValueError: the environment has no such buffer.
        """
        for name in LENGTHS:
            buffer: Any = getattr(self.env, name, None)
            if hasattr(buffer, "copy_"):
                buffer.copy_(length)
                return
        raise ValueError(
            f"{self.name} has no tensor {' or '.join(LENGTHS)}, so its episodes all "
            "begin at 0: give init_at_random_ep_len = false"
        )

    def drain_log(self) -> dict[str, float]:
        """Returns the means of what ended episodes reported since the last call."""
        return self._log.drain()

    def frame(self) -> Any:
        """Returns a picture of the first environment, [height, width, 3] uint8."""
        import torch

        picture = self.env.render()
        picture = picture[0] if isinstance(picture, list | tuple) else picture
        picture = torch.as_tensor(picture).cpu()
        return (picture[0] if picture.ndim == 4 else picture).numpy()

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()

    def _given(self, action: Tensor) -> Tensor:
        if isinstance(self.action_space, Discrete):
            return action.long()
        if self.clip_actions is not None:
            return action.clamp(-self.clip_actions, self.clip_actions)
        return action

    def _groups(self, obs: Any) -> dict[str, Tensor]:
        obs = obs if isinstance(obs, Mapping) else {GROUP: obs}
        return dict(flatten_groups(obs, None))

    def _ends(
        self, obs: dict[str, Tensor], info: Mapping[str, Any], done: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """Returns what is observed after the resets, and before them."""
        if not self._resets_itself:
            before = {name: x.clone() for name, x in obs.items()}
            after = self._groups(self.env.reset(options={"reset_mask": done})[0])
        elif not self.has_final_obs:
            return obs, None
        else:
            found = [info[name] for name in FINAL if name in info]
            if not found:
                raise ValueError(
                    f"{self.name} ended an episode without {' or '.join(FINAL)} in its "
                    "info: give timeout_bootstrap = last_value"
                )
            before, after = self._groups(found[0]), obs
        after = _where(done, after, obs if self._resets_itself else before)
        return after, _where(done, before, after) if self.has_final_obs else None


def _where(done: Tensor, inside: Any, outside: Any) -> dict[str, Tensor]:
    """Returns one dictionary of tensors [N, ...] where done, another elsewhere."""
    import torch

    return {
        name: torch.where(done.reshape((-1,) + (1,) * (x.ndim - 1)), inside[name], x)
        for name, x in outside.items()
    }


def _log_of(info: Mapping[str, Any], done: Tensor) -> dict[str, Tensor]:
    """Returns {tag: mean} over what the episodes that ended say of themselves."""
    final = info.get("final_info", info)
    episode = final.get("episode", {}) if isinstance(final, Mapping) else {}
    return {
        f"Metrics/{name}": x[done].float().mean()
        for name, x in episode.items()
        if hasattr(x, "float") and x.shape == done.shape
    }


def _time_limit(name: str, env: Any) -> int:
    """Returns after how many steps an episode is cut."""
    spec = getattr(env, "spec", None)
    for owner in (env, getattr(env, "unwrapped", None), spec):
        for attribute in ("max_episode_length", "max_episode_steps"):
            limit = getattr(owner, attribute, None)
            if isinstance(limit, int):
                return limit
    raise ValueError(
        f"{name} does not say when its episodes are cut: set max_episode_length on it"
    )


def _step_dt(env: Any) -> float:
    """Returns the duration of a step in s; 1 where the environment does not say it."""
    unwrapped = getattr(env, "unwrapped", env)
    for attribute in ("step_dt", "control_timestep"):
        duration = getattr(unwrapped, attribute, None)
        if isinstance(duration, float):
            return duration
    rate = env.metadata.get("render_fps")
    return 1.0 / rate if rate else 1.0
