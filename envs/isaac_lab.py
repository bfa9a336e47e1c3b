"""An Isaac Lab task as an `Env`: the real simulator, through the bridge.

    with closing(make_isaac_env("Isaac-Cartpole-Direct", 1024)) as env: ...

Isaac Lab 3.0 runs one environment at a time in a process; another one can be made
after `close`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from envs.bridge import BridgedEnv, bridge
from envs.dlpack import Tensor, prepare_jax
from ppo_jax.options import nearest
from ppo_jax.types import ActionSpace, Continuous, Discrete, TimeStep

NUM_WARM_UP_STEPS = 2  # Warp compiles and captures in them, outside of any program
MAX_LOG_ENTRIES = 1000  # kept on the device before they are added up


def make_isaac_env(
    task: str,
    num_envs: int,
    device: str = "cpu",
    seed: int = 42,
    overrides: Sequence[str] = (),
    driver: str | None = None,
    compute_final_obs: bool | None = None,
    clip_actions: float | None = None,
    agent_key: str | None = None,
    play_mode: bool = False,
    film: bool = False,
) -> BridgedEnv:
    """Returns `num_envs` environments of a registered task.

    Args:
      task: id, for instance "Isaac-Cartpole-Direct".
      num_envs: N, how many.
      device: of the simulator, "cpu" or "cuda:0"; JAX has to be on the same.
      seed: of whatever is drawn while the scene is made; `reset` seeds again.
      overrides: Isaac Lab's own, for instance "physics=newton_mjwarp".
      driver: "in_jit" or "host"; None: what `default_driver` says.
      compute_final_obs: see `open_isaac_env`.
      clip_actions: the task sees continuous actions clipped to +- this; None: as is.
      agent_key: whose presets `overrides` may name as well; see `resolve_task`.
      play_mode: what the task changes for playing, such as no noise in observations.
      film: open a viewer without a window, whose pictures `IsaacLabEnv.frame` takes.

    Raises:
      ImportError: Isaac Lab is not installed.
      ValueError: there is no such task, or it cannot be used; says why.
      RuntimeError: another environment is open in this process.
    """
    env_cfg, _ = resolve_task(task, agent_key, overrides, play_mode)
    env_cfg.scene.num_envs = num_envs
    env_cfg.seed = seed
    if film:
        env_cfg.sim.visualizer_cfgs = [_viewer()]
    return open_isaac_env(
        task, env_cfg, {"device": device}, driver, compute_final_obs, clip_actions
    )


def default_driver(device: str) -> str:
    """Returns "in_jit" on a CPU, and "host" on a GPU, where in_jit is not yet proved.

    In both, the same numbers come out; see `envs.bridge`.
    """
    return "host" if device.startswith("cuda") else "in_jit"


def resolve_task(
    task: str,
    agent_key: str | None,
    overrides: Sequence[str] = (),
    play_mode: bool = False,
) -> tuple[Any, Any]:
    """Returns (env_cfg, agent_cfg) of a task with presets and overrides applied.

    Args:
      task: id of a registered task.
      agent_key: which of the agent configurations that the task registers; None: none.
      overrides: "presets=...", "physics=...", "env.x.y=..." and "agent.x=..." tokens.
      play_mode: as the task is played: fewer environments, no noise.

    Raises:
      ImportError: Isaac Lab is not installed.
      ValueError: there is no such task, preset or override; names the nearest.
    """
    names = registered_tasks()
    name = task.split(":")[-1]
    if name not in names:
        raise ValueError(f"Isaac Lab has no task {task!r}: {nearest(name, names)}")
    from isaaclab_tasks.utils import resolve_task_config

    return resolve_task_config(name, agent_key, play_mode, list(overrides))


def registered_tasks() -> list[str]:
    """Returns the ids of Isaac Lab's tasks, with those of installed packages and ours.

    Raises:
      ImportError: Isaac Lab is not installed.
    """
    try:
        import isaaclab_tasks  # noqa: F401 - registers the stock tasks
        from isaaclab.cli import load_external_tasks
    except ImportError as error:
        raise ImportError(
            "this task needs Isaac Lab 3.0: uv sync --extra isaaclab, with Python 3.12 "
            f"on Linux ({error})"
        ) from error
    import gymnasium

    import envs.isaac_tasks  # noqa: F401 - registers ours

    load_external_tasks()
    registry = gymnasium.registry.items()
    return sorted(name for name, x in registry if "env_cfg_entry_point" in x.kwargs)


def open_isaac_env(
    task: str,
    env_cfg: Any,
    launcher_args: Any,
    driver: str | None = None,
    compute_final_obs: bool | None = None,
    clip_actions: float | None = None,
) -> BridgedEnv:
    """Launches the simulator and returns the environments of a configuration.

    Args:
      task: id of a registered task.
      env_cfg: from `resolve_task`; number of environments and seed are set.
      launcher_args: of Isaac Lab's launcher; a dict, or a namespace from its parser.
        Its device becomes that of the simulation.
      driver: "in_jit" or "host"; None: what `default_driver` says.
      compute_final_obs: have Isaac Lab observe once more before each auto-reset, so
        that the value after a time-out is that of the state in which it was cut.
        None: do so unless the task's observations are the simulator's own state.
      clip_actions: the task sees continuous actions clipped to +- this; None: as is.

    Raises:
      ValueError: the device, the spaces or the observations cannot be used; says why.
      RuntimeError: another environment is open in this process.
      FileNotFoundError: an asset is missing; says where it was looked for.
    """
    arguments = (
        launcher_args if isinstance(launcher_args, dict) else vars(launcher_args)
    )
    device = arguments["device"]
    _require_device(device)
    prepare_jax(device)
    env_cfg.sim.device = device
    env_cfg.compute_final_obs = compute_final_obs is not False
    with ExitStack() as resources:
        isaac = _launch(task, env_cfg, launcher_args, resources)
        resources.callback(isaac.close)
        torch_env = IsaacLabEnv(task, isaac, clip_actions, compute_final_obs is True)
        env = bridge(torch_env, driver or default_driver(device))
        torch_env.resources = resources.pop_all()
    return env


class IsaacLabEnv:
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
        self._action_space = _action_space(task, self.single.single_action_space)
        self._log = EpisodeLog()
        self._last_final_obs: Any = None
        observed = self._warm_up()
        if self.has_final_obs:
            problem = _reused_memory(task, *observed)
            if problem and require_final_obs:
                raise ValueError(problem)
            isaac.cfg.compute_final_obs = problem is None

    @property
    def num_envs(self) -> int:
        """N."""
        return self.isaac.num_envs

    @property
    def action_space(self) -> ActionSpace:
        """What `step` takes per environment."""
        return self._action_space

    @property
    def max_episode_length(self) -> int:
        """Steps after which an episode is truncated."""
        return int(self.isaac.max_episode_length)

    @property
    def step_dt(self) -> float:
        """Duration of one step, in s."""
        return float(self.isaac.step_dt)

    @property
    def has_final_obs(self) -> bool:
        """Whether Isaac Lab observes once more before each auto-reset."""
        return bool(self.isaac.cfg.compute_final_obs)

    def reset(self, seed: int) -> dict[str, Tensor]:
        """Seeds torch, numpy, random and Warp, and starts every environment anew."""
        obs, extras = self.single.reset(seed=seed)
        self._log = EpisodeLog(extras.get("log"))
        self._last_final_obs = extras.get("final_obs")
        return dict(_flatten_groups(obs, self._space))

    def step(self, action: Tensor) -> TimeStep:
        """Steps every environment; those that end start anew in the same step."""
        import torch

        result = self.single.step(self._isaac_action(action))
        obs, reward, terminated, truncated, extras = result
        obs = dict(_flatten_groups(obs, self._space))
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

    def frame(self) -> Any:
        """Returns a picture [height, width, 3] uint8; needs `film`."""
        sim = self.isaac.sim
        if not sim.is_rendering:
            sim.forward()
        return sim.visualizers[0].render_rgb_array()

    def save_config(self, path: Path) -> None:
        """Writes the task's configuration, with all presets resolved, as YAML."""
        from isaaclab.utils.io import dump_yaml

        dump_yaml(str(path), self.isaac.cfg)

    def close(self) -> None:
        """Closes the environment and what was launched for it; twice does nothing."""
        self._log = EpisodeLog()
        self._last_final_obs = None
        self.resources.close()

    def _isaac_action(self, action: Tensor) -> Tensor:
        """Returns the action as Isaac Lab's tasks read it; discrete ones are [N, 1]."""
        if isinstance(self._action_space, Discrete):
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
        final_obs = dict(_flatten_groups(found, self._space))
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
        if isinstance(self._action_space, Continuous):
            zeros += (self._action_space.dim,)
        observed = []
        for _ in range(NUM_WARM_UP_STEPS):
            self.step(self._zeros(zeros))
            observed.append(self._raw_obs())
        self.isaac.common_step_counter = 0  # curricula read it
        return observed[-2:]

    def _zeros(self, shape: tuple[int, ...]) -> Tensor:
        import torch

        is_discrete = isinstance(self._action_space, Discrete)
        dtype = torch.int32 if is_discrete else torch.float32
        return torch.zeros(shape, dtype=dtype, device=self.device)

    def _raw_obs(self) -> dict[str, Tensor]:
        """Returns what the task observed last, before agents are concatenated."""
        obs = self.isaac.obs_dict if _is_multi_agent(self.isaac) else self.isaac.obs_buf
        return dict(_flatten_groups(obs, None))


class EpisodeLog:
    """Means of what a task puts into extras["log"], every value counted once.

    Isaac Lab writes most entries where episodes end, as means over these, and leaves
    them there. A value is new if it or its dictionary is another object than in the
    step before. It counts as often as episodes ended in its step, and once if none
    did. Tags may appear at any time, which is why this is no part of `TimeStep`: the
    arrays of a compiled program are fixed before the first step.
    """

    def __init__(self, log: Mapping[str, Any] | None = None) -> None:
        """Starts empty; `log` is what is there already and is not counted."""
        self._log = log
        self._values: dict[str, Any] = dict(log or {})
        self._entries: list[tuple[list[str], Tensor, Tensor]] = []  # tags, values, ends
        self._totals: dict[str, list[float]] = {}  # {tag: [weighted sum, weight]}

    def add(self, log: Mapping[str, Any] | None, done: Tensor) -> None:
        """Notes what is new after a step; copies it, and waits for no GPU."""
        import torch

        is_new = log is not self._log
        log_now = dict(log or {})
        new = {
            tag: value
            for tag, value in log_now.items()
            if is_new or self._values.get(tag) is not value
        }
        self._log, self._values = log, log_now
        if not new:
            return
        values = torch.stack([_scalar(x, done.device) for x in new.values()])
        self._entries.append((list(new), values, done.sum()))
        if len(self._entries) == MAX_LOG_ENTRIES:
            self._add_up()

    def drain(self) -> dict[str, float]:
        """Returns {tag: mean} since the last call, and forgets it."""
        self._add_up()
        totals, self._totals = self._totals, {}
        return {tag: total / weight for tag, (total, weight) in totals.items()}

    def _add_up(self) -> None:
        """Adds the entries to the totals; copies them from the device all at once."""
        import torch

        if not self._entries:
            return
        tags, values, ends = zip(*self._entries, strict=True)
        self._entries = []
        numbers = iter(torch.cat(values).tolist())
        for names, num_ended in zip(tags, torch.stack(ends).tolist(), strict=True):
            weight = max(num_ended, 1)
            for tag in names:
                so_far = self._totals.setdefault(tag, [0.0, 0.0])
                so_far[0] += weight * next(numbers)
                so_far[1] += weight


def _scalar(value: Any, device: Any) -> Tensor:
    """Returns a logged number, or the mean of logged numbers, as [] float32."""
    import torch

    tensor = torch.as_tensor(value, dtype=torch.float32, device=device)
    return tensor.mean() if tensor.ndim else tensor


def _launch(task: str, env_cfg: Any, launcher_args: Any, resources: ExitStack) -> Any:
    """Returns the unwrapped Isaac Lab environment."""
    import gymnasium
    from isaaclab.app import launch_simulation
    from isaaclab.sim import SimulationContext

    if SimulationContext.instance() is not None:
        raise RuntimeError(
            "Isaac Lab runs one environment at a time in a process, and one is open: "
            f"close it before making {task!r}"
        )
    resources.enter_context(launch_simulation(env_cfg, launcher_args))
    try:
        return gymnasium.make(task.split(":")[-1], cfg=env_cfg).unwrapped
    except FileNotFoundError as error:
        resources.close()  # before it is raised, or the launcher prints it as well
        raise FileNotFoundError(
            f"{task} needs a file that is not there: set ISAACSIM_ASSET_ROOT to a "
            f"folder with the assets before Python starts ({error})"
        ) from error


def _require_device(device: str) -> None:
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"device = {device!r}, but torch sees no CUDA device: give device = 'cpu'"
        )


def _is_multi_agent(isaac: Any) -> bool:
    from isaaclab.envs import DirectMARLEnv

    return isinstance(isaac, DirectMARLEnv)


def _as_single_agent(task: str, isaac: Any) -> Any:
    """Returns the environment, or all agents of it as one."""
    if not _is_multi_agent(isaac):
        return isaac
    from isaaclab.envs import multi_agent_to_single_agent

    for agent, space in isaac.action_spaces.items():
        if not isinstance(_action_space(f"{task}, agent {agent!r}", space), Continuous):
            raise ValueError(
                f"{task}, agent {agent!r}: the action space {space} cannot be joined "
                "with others; only Box can"
            )
    return multi_agent_to_single_agent(isaac)


def _action_space(task: str, space: Any) -> ActionSpace:
    from gymnasium import spaces

    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return Continuous(space.shape[0])
    if isinstance(space, spaces.Discrete) and space.start == 0:
        return Discrete(int(space.n))
    raise ValueError(
        f"{task}: the action space {space} is not supported; a vector Box and a "
        "Discrete that starts at 0 are"
    )


def _flatten_groups(
    obs: Mapping[str, Any], spaces: Any
) -> Iterator[tuple[str, Tensor]]:
    """Yields ("group", tensor), or ("group/part", tensor) where a group has parts."""
    for name, value in obs.items():
        yield from _flatten(name, value, _part_of(spaces, name))


def _flatten(name: str, value: Any, space: Any) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors of a group; a category becomes its indicator vector."""
    if isinstance(value, Mapping | tuple | list):
        parts = value if isinstance(value, Mapping) else dict(enumerate(value))
        for key, part in parts.items():
            yield from _flatten(f"{name}/{key}", part, _part_of(space, key))
    else:
        yield name, _indicators(value, space)


def _part_of(space: Any, key: Any) -> Any:
    """Returns the space of a part, or None where the task does not declare it."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return space.spaces.get(key)
    if isinstance(space, spaces.Tuple) and key < len(space):
        return space[key]
    return None


def _indicators(value: Tensor, space: Any) -> Tensor:
    """Returns float32 indicators of discrete observations, other values unchanged.

    The numbers of categories mean nothing as numbers. Discrete(n) [N] or [N, 1]
    becomes [N, n], MultiDiscrete [N, K] becomes [N, n_1 + ... + n_K].
    """
    import torch
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        sizes, starts = [int(space.n)], [int(space.start)]
    elif isinstance(space, spaces.MultiDiscrete):
        sizes = [int(n) for n in space.nvec.reshape(-1)]
        starts = [int(n) for n in space.start.reshape(-1)]
    else:
        return value
    columns = value.reshape(len(value), len(sizes)).unbind(dim=1)
    indicators = [
        column[:, None] == torch.arange(start, start + size, device=value.device)
        for column, size, start in zip(columns, sizes, starts, strict=True)
    ]
    return torch.cat(indicators, dim=1).to(torch.float32)


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


def _viewer() -> Any:
    from isaaclab_visualizers.newton import NewtonGLVisualizerCfg

    return NewtonGLVisualizerCfg(headless=True, streaming_view=False)
