"""The simulators that tasks run in, and what is particular to each.

What a command line leaves to the simulator's own configuration are tokens, KEY=VALUE.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from ppo_jax.runs.config import Config, SimulatorConfig
from ppo_jax.runs.config_fields import override

if TYPE_CHECKING:
    from ppo_jax.types import Env

AGENT_TOKENS = ("agent.",)


class Backend(NamedTuple):
    """A simulator, before any of its environments is open."""

    title: str
    tokens: tuple[str, ...]  # how the words begin that are about its environments
    config: Callable[..., Config]  # (task, agent, tokens) -> before the command line
    make_env: Callable[..., "Env"]  # (config, num_envs=, play_mode=, film=)
    example: str  # of a task's name
    package: str  # without it there is none of its tasks
    tasks: Callable[[], list[str]]

    def listing(self) -> list[str]:
        """Returns what `--list` says of its tasks."""
        if find_spec(self.package) is not None:
            return self.tasks()
        return [f"{self.example:<20} {self.title}'s, with the extra {self.package}"]


def backend_of(task: str) -> Backend | None:
    """Returns the simulator that a task runs in; None: it runs in JAX.

    Raises:
      ImportError: it is not installed.
    """
    from ppo_jax.envs import simulator_of

    return BACKENDS.get(simulator_of(task) or "")


def _isaac_config(task: str, agent: str, tokens: Sequence[str]) -> Config:
    from ppo_jax.configs.isaac_lab import isaac_config

    return isaac_config(task, agent or None, tokens)[0]


def _make_isaac_env(config: Config, **how: Any) -> "Env":
    from ppo_jax.envs.isaac_lab import make_isaac_env

    agent_key = config.simulator.agent or None
    return make_isaac_env(config.task, agent_key=agent_key, **_in_common(config), **how)


def _mjlab_config(task: str, agent: str, tokens: Sequence[str]) -> Config:
    from ppo_jax.configs.mjlab import mjlab_config

    if agent:
        raise ValueError(
            f"--agent {agent}: a task of mjlab registers one agent: leave it away"
        )
    return mjlab_config(task, tokens)[0]


def _make_mjlab_env(config: Config, **how: Any) -> "Env":
    from ppo_jax.envs.mjlab_tasks import make_mjlab_env

    return make_mjlab_env(config.task, **_in_common(config), **how)


def _isaac_tasks() -> list[str]:
    from ppo_jax.envs.isaac_lab import registered_tasks

    return registered_tasks()


def _mjlab_tasks() -> list[str]:
    from ppo_jax.envs.mjlab_tasks import PREFIX, registered_tasks

    return [PREFIX + name for name in registered_tasks()]


def _own_config(task: str, agent: str, tokens: Sequence[str]) -> Config:
    if agent:
        raise ValueError(f"--agent {agent}: {task} registers none: leave it away")
    ours = dict(x.split("=", 1) for x in tokens if x.startswith(AGENT_TOKENS))
    theirs = tuple(x for x in tokens if not x.startswith(AGENT_TOKENS))
    simulator = SimulatorConfig(overrides=theirs)
    config = Config(
        task=task,
        experiment_name=task.rpartition(":")[2],
        init_at_random_ep_len=not task.startswith("gymnasium"),
        simulator=simulator,
    )
    return override(config, ours)


def _make_own_env(
    config: Config, num_envs: int, play_mode: bool = False, film: bool = False
) -> "Env":
    from ppo_jax.envs.own_simulators import make_own_env

    del play_mode, film  # it is as its function makes it
    how = _in_common(config)
    how.pop("seed")  # `reset` seeds
    return make_own_env(config.task, num_envs, **how)


def _in_common(config: Config) -> dict[str, Any]:
    """Returns how a configuration asks for environments, whatever makes them."""
    from ppo_jax.runs import processes

    simulator, bootstrap = config.simulator, config.algorithm.timeout_bootstrap
    return {
        "device": processes.own_device(simulator.device),
        "seed": config.seed + processes.index(),
        "overrides": [x for x in simulator.overrides if not x.startswith(AGENT_TOKENS)],
        "driver": "in_jit" if simulator.bridge == "auto" else simulator.bridge,
        "compute_final_obs": None if bootstrap == "auto" else bootstrap == "final_obs",
        "clip_actions": config.clip_actions,
    }


BACKENDS = {
    "isaaclab": Backend(
        "Isaac Lab",
        ("presets=", "physics=", "renderer=", "env."),
        _isaac_config,
        _make_isaac_env,
        "Isaac-...",
        "isaaclab",
        _isaac_tasks,
    ),
    "mjlab": Backend(
        "mjlab",
        ("env.",),
        _mjlab_config,
        _make_mjlab_env,
        "mjlab:NAME",
        "mjlab",
        _mjlab_tasks,
    ),
    "torch": Backend(
        "your simulator",
        ("env.",),
        _own_config,
        _make_own_env,
        "torch:MODULE:FUNCTION",
        "torch",
        lambda: ["torch:MODULE:FUNCTION  a TorchEnv that your function makes"],
    ),
    "gymnasium-torch": Backend(
        "your environments",
        ("env.",),
        _own_config,
        _make_own_env,
        "gymnasium-torch:MODULE:FUNCTION",
        "torch",
        lambda: [
            "gymnasium-torch:MODULE:FUNCTION  Gymnasium's vector environments of torch"
        ],
    ),
}
