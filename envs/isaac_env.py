"""An environment of Isaac Lab, as the bridge takes it."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ppo_jax.envs.curricula import COUNTER, progress_of, reset_with
from ppo_jax.envs.dlpack import Tensor
from ppo_jax.envs.episode_log import EpisodeLog
from ppo_jax.envs.gym_spaces import action_space, flatten_groups
from ppo_jax.envs.isaac_deployment import deployment
from ppo_jax.envs.torch_env import TorchEnv
from ppo_jax.types import Continuous, Discrete, EnvInfo, TimeStep

NUM_WARM_UP_STEPS = 2  # Warp compiles and captures in them, outside of any program


class IsaacLabEnv(TorchEnv):
    """A ManagerBasedRLEnv, DirectRLEnv or DirectMARLEnv as a `TorchEnv`.

    A DirectMARLEnv becomes a single agent: observations and actions of its agents are
    concatenated, their rewards summed. What comes out is not checked for NaN here:
    the rollout names the group and the environments.

    Where the task has a finite horizon its time-outs are terminations: nothing has a
    value beyond them.

    Raises:
      ValueError: an action space is neither Box nor Discrete, or final observations
        are required and the task hands out the simulator's own state.
    """

    def __init__(
        self,
        task: str,
        isaac: Any,
        clip_actions: float | None,
        require_final_obs: bool = False,
    ) -> None:
        """Takes a few steps, in which Warp compiles, and leaves no trace of them."""
        import torch

        self.isaac = isaac
        self.single = _as_single_agent(task, isaac)
        self.clip_actions = clip_actions
        self.device = torch.device(isaac.device)  # of every tensor
        self.resources = ExitStack()
        self._space = self.single.single_observation_space
        self.info = EnvInfo(
            num_envs=isaac.num_envs,
            action_space=action_space(task, self.single.single_action_space),
            max_episode_length=int(isaac.max_episode_length),
            step_dt=float(isaac.step_dt),
        )
        self._log = EpisodeLog()
        self._last_final_obs: Any = None
        self._progress: dict[str, Any] = {}  # of curricula, to go on from
        observed = self._warm_up()
        if self.has_final_obs:
            problem = _reused_memory(task, *observed)
            if problem and require_final_obs:
                raise ValueError(problem)
            isaac.cfg.compute_final_obs = problem is None

    @property
    def unwrapped(self) -> Any:
        """The environment of Isaac Lab, as functions for rsl_rl ask for it."""
        return self.isaac

    @property
    def has_final_obs(self) -> bool:
        """Whether Isaac Lab observes once more before each auto-reset."""
        return bool(self.isaac.cfg.compute_final_obs)

    def reset(self, seed: int) -> dict[str, Tensor]:
        """Seeds torch, numpy, random and Warp, and starts every environment anew."""
        obs, extras = self._reset_all(seed)
        self._log = EpisodeLog(extras.get("log"))
        self._last_final_obs = extras.get("final_obs")
        return dict(flatten_groups(obs, self._space))

    def step(self, action: Tensor) -> TimeStep:
        """Steps every environment; those that end start anew in the same step."""
        import torch

        result = self.single.step(self._isaac_action(action))
        obs, reward, terminated, truncated, extras = result
        obs = dict(flatten_groups(obs, self._space))
        done = terminated | truncated
        self._log.add(extras.get("log"), done)
        final_obs = self._final_obs(obs, done, extras) if self.has_final_obs else None
        if self.isaac.cfg.is_finite_horizon:
            terminated, truncated = done, torch.zeros_like(done)
        return TimeStep(obs, reward, terminated, truncated, final_obs, log={})

    def set_episode_length(self, length: Tensor) -> None:
        """Sets how many steps of each episode count as taken; Isaac keeps int64."""
        self.isaac.episode_length_buf[:] = length.long()

    def drain_log(self) -> dict[str, float]:
        """Returns the means of what the task logged since the last call."""
        return self._log.drain()

    def states(self) -> dict[str, Tensor]:
        """Returns what Isaac Lab's scene can be put back to, {name: [N, ...]}.

        Positions are relative to the environments' origins.
        """
        kinds = self.isaac.scene.get_state(is_relative=True)
        return {
            f"{kind}/{asset}/{name}": x
            for kind, assets in kinds.items()
            for asset, parts in assets.items()
            for name, x in parts.items()
        }

    def set_states(self, states: Mapping[str, Any]) -> None:
        """Puts the scene into what `states` returned, of all environments."""
        import torch

        kinds: dict[str, Any] = {
            kind: {} for kind in self.isaac.scene.get_state(is_relative=True)
        }
        for path, x in states.items():
            kind, asset, name = path.split("/")
            tensor = torch.as_tensor(x, device=self.device)
            kinds[kind].setdefault(asset, {})[name] = tensor
        self.isaac.scene.reset_to(kinds, is_relative=True)
        self.isaac.sim.forward()

    def frame(self) -> Any:
        """Returns a picture [height, width, 3] uint8; needs `film`."""
        sim = self.isaac.sim
        if not sim.is_rendering:
            sim.forward()
        return sim.visualizers[0].render_rgb_array()

    def open_scene(self, server: Any) -> Any:
        """Returns the environments as a page of viser shows them; needs Newton."""
        from ppo_jax.envs.newton_scene import NewtonScene

        return NewtonScene(server, self.isaac)

    def save_config(self, path: Path) -> None:
        """Writes the task's configuration, with all presets resolved, as YAML."""
        from isaaclab.utils.io import dump_yaml

        dump_yaml(str(path), self.isaac.cfg)

    def deployment(self, groups: Sequence[str]) -> dict[str, str]:
        """Returns what a robot must know of the task; see `isaac_deployment`."""
        return deployment(self.isaac, groups)

    def state_dict(self) -> dict[str, Any]:
        """Returns how far the curricula are."""
        return progress_of(self.isaac)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with the curricula where they were, from the next reset on."""
        self._progress = state

    def close(self) -> None:
        """Closes the environment and what was launched for it; twice does nothing."""
        self._log = EpisodeLog()
        self._last_final_obs = None
        self.resources.close()

    def _reset_all(self, seed: int) -> tuple[Any, Any]:
        progress, self._progress = self._progress, {}
        if not progress:
            return self.single.reset(seed=seed)
        if self.single is self.isaac:
            return reset_with(self.isaac, progress, seed)
        self.isaac.common_step_counter = progress[COUNTER]  # agents have no curricula
        return self.single.reset(seed=seed)

    def _isaac_action(self, action: Tensor) -> Tensor:
        """Returns the action as Isaac Lab's tasks read it; discrete ones are [N, 1]."""
        if isinstance(self.action_space, Discrete):
            return action.long().unsqueeze(-1)
        if self.clip_actions is not None:
            return action.clamp(-self.clip_actions, self.clip_actions)
        return action

    def _final_obs(
        self, obs: dict[str, Tensor], done: Tensor, extras: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Returns the observation before the auto-reset.

        Isaac Lab makes one only in steps where something resets and leaves it in
        `extras` afterwards: a stale one is the same object, or is masked by `done`.
        """
        import torch

        found = extras.get("final_obs")
        if found is None or found is self._last_final_obs:
            return obs
        self._last_final_obs = found
        final_obs = dict(flatten_groups(found, self._space))
        return {
            name: torch.where(
                done.reshape((-1,) + (1,) * (x.ndim - 1)), final_obs[name], x
            )
            for name, x in obs.items()
        }

    def _warm_up(self) -> list[dict[str, Tensor]]:
        """Steps a few times; returns what the task observed in the last two."""
        self.reset(0)
        zeros = (self.num_envs,)
        if isinstance(self.action_space, Continuous):
            zeros += (self.action_space.dim,)
        observed = []
        for _ in range(NUM_WARM_UP_STEPS):
            self.step(self._zeros(zeros))
            observed.append(self._raw_obs())
        self.isaac.common_step_counter = 0  # curricula read it
        return observed[-2:]

    def _zeros(self, shape: tuple[int, ...]) -> Tensor:
        import torch

        is_discrete = isinstance(self.action_space, Discrete)
        dtype = torch.int32 if is_discrete else torch.float32
        return torch.zeros(shape, dtype=dtype, device=self.device)

    def _raw_obs(self) -> dict[str, Tensor]:
        """Returns what the task observed last, before agents are concatenated."""
        obs = self.isaac.obs_dict if _is_multi_agent(self.isaac) else self.isaac.obs_buf
        return dict(flatten_groups(obs, None))


def _is_multi_agent(isaac: Any) -> bool:
    from isaaclab.envs import DirectMARLEnv

    return isinstance(isaac, DirectMARLEnv)


def _as_single_agent(task: str, isaac: Any) -> Any:
    """Returns the environment, or all agents of it as one."""
    if not _is_multi_agent(isaac):
        return isaac
    from isaaclab.envs import multi_agent_to_single_agent

    for agent, space in isaac.action_spaces.items():
        if not isinstance(action_space(f"{task}, agent {agent!r}", space), Continuous):
            raise ValueError(
                f"{task}, agent {agent!r}: the action space {space} cannot be joined "
                "with others; only Box can"
            )
    return multi_agent_to_single_agent(isaac)


def _reused_memory(
    task: str, before: dict[str, Tensor], after: dict[str, Tensor]
) -> str | None:
    """Says which observation, if any, is the same memory in every step.

    The reset writes there, so the observation before it would be lost.
    """
    for name, tensor in after.items():
        if tensor.numel() and tensor.data_ptr() == before[name].data_ptr():
            return (
                f"{task} hands out the simulator's own state as {name!r}, which the "
                "reset overwrites: give timeout_bootstrap = last_value "
                "(compute_final_obs = False), the value of the observation before the "
                "time-out, as in rsl_rl"
            )
    return None
