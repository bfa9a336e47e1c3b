"""The configuration of a run: frozen dataclasses, loaded and overridden strictly.

The tree and its names are those of Isaac Lab's rsl_rl runner, so that what a user
knows from there (`algorithm.gamma`, `actor.hidden_dims`) means the same here.
"""

import ast
import dataclasses
import functools
import os
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppo_jax.learning.config import PPOConfig
from ppo_jax.options import (
    check_options,
    fraction,
    nearest,
    not_negative,
    one_of,
    option,
    positive,
    seed_number,
)
from ppo_jax.policies.actor_critic import actor_critic
from ppo_jax.policies.models import DistributionConfig, ModelConfig
from ppo_jax.types import ActionSpace, ActorCritic, Hyperparams


@dataclass(frozen=True)
class AlgorithmConfig(PPOConfig):
    """PPO with numbers: the static part and a starting value of each dynamic scalar."""

    learning_rate: float = option(
        1e-3, "learning rate; the first, if adaptive", positive
    )
    gamma: float = option(0.99, "discount per step", fraction)
    lam: float = option(0.95, "GAE: 0 one-step, 1 Monte Carlo", fraction)
    clip_param: float = option(0.2, "clips the ratio and the change of value", positive)
    value_loss_coef: float = option(1.0, "weight of the value loss", not_negative)
    entropy_coef: float = option(0.01, "weight of the entropy bonus", not_negative)
    max_grad_norm: float = option(
        1.0, "norm of actor's and critic's gradient", positive
    )
    desired_kl: float | None = option(
        0.01, "KL per minibatch that the rate follows; none: a fixed rate", positive
    )

    def __post_init__(self) -> None:
        """Checks every field; without a desired KL the schedule is fixed."""
        check_options(self)
        if self.desired_kl is None:
            object.__setattr__(self, "schedule", "fixed")


MAX_INT32 = 2**31 - 1


def _folder_name(value: str) -> str | None:
    allowed = re.fullmatch(r"(\w[\w.,+=@ -]*)?", value)
    return None if allowed else "a name for a folder: letters, digits, - and _"


def _device_name(value: str) -> str | None:
    return None if re.fullmatch(r"cpu|cuda(:\d+)?", value) else "cpu, cuda or cuda:N"


@dataclass(frozen=True)
class SimulatorConfig:
    """How an Isaac Lab task is started. JAX-native tasks have no simulator."""

    device: str = option("cuda:0", "where simulator and learner run", _device_name)
    bridge: str = option(
        "auto",
        "steps run in_jit, inside the jitted program, or from a loop on the host; "
        "auto is in_jit on a CPU, host on a GPU",
        one_of("auto", "in_jit", "host"),
    )
    agent: str = option(
        "", "agent configuration that the task registers; empty: ppo_jax's, or rsl_rl's"
    )
    overrides: tuple[str, ...] = option(
        (), "words for Isaac Lab, such as physics=newton_mjwarp or env.decimation=4"
    )

    def __post_init__(self) -> None:
        """Checks every field."""
        check_options(self)


@dataclass(frozen=True)
class Config:
    """A training run."""

    task: str = option("Cartpole", "task, see --list")
    num_envs: int = option(1024, "environments stepped together", positive)
    seed: int = option(42, "seed of everything random", seed_number)
    num_steps_per_env: int = option(
        24, "steps of each environment per iteration", positive
    )
    max_iterations: int = option(
        1500, "iterations, counted from the start of the run", positive
    )
    save_interval: int = option(50, "iterations between checkpoints", positive)
    keep_checkpoints: int = option(
        3, "newest checkpoints kept, beside the best", positive
    )
    experiment_name: str = option(
        "", "folder of the runs; the task's name if empty", _folder_name
    )
    run_name: str = option("", "suffix of the run's folder", _folder_name)
    logger: str = option(
        "tensorboard", "where curves go", one_of("tensorboard", "none")
    )
    init_at_random_ep_len: bool = option(
        True, "start each environment at a random point of its time limit"
    )
    clip_actions: float | None = option(
        None, "the environment sees actions clipped to +- this", positive
    )
    check_for_nan: bool = option(
        True, "stop when observations or rewards are not finite"
    )
    solved_return: float | None = option(
        None, "mean return of 100 episodes that counts as solved"
    )
    obs_groups: dict[str, tuple[str, ...]] = option(
        {}, "observation groups of actor and critic"
    )
    actor: ModelConfig = option(
        ModelConfig(distribution_cfg=DistributionConfig()), "policy network"
    )
    critic: ModelConfig = option(ModelConfig(), "value network")
    algorithm: AlgorithmConfig = option(AlgorithmConfig(), "PPO")
    simulator: SimulatorConfig = option(SimulatorConfig(), "of Isaac Lab tasks")

    def __post_init__(self) -> None:
        """Checks every field, and what two of them must be to each other."""
        check_options(self)
        if self.critic.distribution_cfg is not None:
            raise ValueError(
                "critic.distribution_cfg is set, but a value is no distribution: "
                "give critic.distribution_cfg = none"
            )
        samples = self.num_envs * self.num_steps_per_env
        if samples > MAX_INT32:
            raise ValueError(
                f"num_envs * num_steps_per_env = {samples} samples are too many: "
                f"give at most {MAX_INT32}"
            )
        if samples < 2 * self.algorithm.num_mini_batches:
            raise ValueError(
                f"num_envs * num_steps_per_env = {samples} samples are too few for "
                f"algorithm.num_mini_batches = {self.algorithm.num_mini_batches}: "
                "give more environments or fewer minibatches"
            )


def parts_of(
    config: Config, action_space: ActionSpace
) -> tuple[ActorCritic, AlgorithmConfig, Hyperparams]:
    """Returns what `make_ppo` and `train` take: a network, statics and dynamic scalars.

    network, ppo_config, hparams = parts_of(config, env.action_space)
    ppo = make_ppo(network, ppo_config)
    """
    network = actor_critic(action_space, config.actor, config.critic, config.obs_groups)
    return network, config.algorithm, hyperparams(config.algorithm)


def hyperparams(algorithm: AlgorithmConfig) -> Hyperparams:
    """Returns the dynamic scalars of a configuration."""
    values = {name: getattr(algorithm, name) for name in Hyperparams._fields}
    values["desired_kl"] = algorithm.desired_kl or 0.0  # unread when the rate is fixed
    return Hyperparams(**values)


def from_dict(data: Mapping[str, Any]) -> Config:
    """Returns the configuration that `to_dict` wrote; missing fields take defaults.

    Raises:
      ValueError: an unknown key or a bad value; names it and the nearest valid key.
    """
    return _build(Config, data, "")


def to_dict(config: Any) -> dict[str, Any]:
    """Returns nested dicts of plain values, tuples as lists: ready for YAML or JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return value

    return plain(dataclasses.asdict(config))


def save(config: Config, path: Path) -> None:
    """Writes the configuration as YAML, whole or not at all."""
    import yaml

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(yaml.safe_dump(to_dict(config), sort_keys=False))
    os.replace(temporary, path)


def load(path: Path) -> Config:
    """Reads a configuration from YAML.

    Raises:
      ValueError: there is no such file, or it holds no valid configuration.
    """
    import yaml

    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"cannot read the configuration {path}: {reason}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds no configuration: it must be a YAML mapping")
    try:
        return from_dict(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def override(config: Config, assignments: Mapping[str, Any]) -> Config:
    """Returns the configuration with some fields set.

    Args:
      config: to start from.
      assignments: {name: value}. A name is a path ("algorithm.gamma") or any ending
        of one that no other field has ("gamma"); "agent." in front is ignored. A
        value that is text is read as a Python literal, true, false or none.

    Raises:
      ValueError: an unknown or ambiguous name, or a bad value.
    """
    data = to_dict(config)
    for name, value in assignments.items():
        *parents, leaf = find_path(name).split(".")
        node = data
        for parent in parents:
            if node[parent] is None:
                node[parent] = {}
            node = node[parent]
        node[leaf] = value if not isinstance(value, str) else _Text(value)
    return from_dict(data)


def find_path(name: str) -> str:
    """Returns the full path of a field from its path or from an ending of it.

    Raises:
      ValueError: no field is called so, or several are; names the nearest or all.
    """
    wanted = name.removeprefix("agent.")
    paths = [path for path, _ in fields_of(Config())]
    if wanted in paths:
        return wanted
    matches = [path for path in paths if path.endswith(f".{wanted}")]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ValueError(f"{name!r} is ambiguous: say {' or '.join(sorted(matches))}")
    known = {*paths, *(path.split(".")[-1] for path in paths)}
    raise ValueError(f"there is no option {name!r}: {nearest(wanted, known)}")


def short_name(path: str) -> str:
    """Returns the shortest ending of a field's path that no other field has."""
    paths = [path for path, _ in fields_of(Config())]
    parts = path.split(".")
    for count in range(1, len(parts)):
        ending = ".".join(parts[-count:])
        if ending not in paths and sum(p.endswith(f".{ending}") for p in paths) == 1:
            return ending
    return path


def flatten(config: Config) -> dict[str, Any]:
    """Returns {path: value} of every field, ready for `override`."""
    paths = [path for path, _ in fields_of(config)]
    return {path: functools.reduce(getattr, path.split("."), config) for path in paths}


def fields_of(config: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field]]:
    """Yields the path and the field of every value in a configuration.

    A group that is not there, as the critic's distribution, has no fields.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from fields_of(value, f"{prefix}{field.name}.")
        elif not _dataclass_in(hints[field.name]):
            yield prefix + field.name, field


class _Text(str):
    """A value that was typed, to be read as the field's type asks."""


def _build(cls: type, data: Mapping[str, Any], prefix: str) -> Any:
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    values = {}
    for name, value in data.items():
        if name not in names:
            hint = nearest(name, names)
            raise ValueError(f"there is no option '{prefix}{name}': {hint}")
        nested = _dataclass_in(hints[name])
        if nested and isinstance(value, Mapping):
            value = _build(nested, value, f"{prefix}{name}.")
        elif isinstance(value, _Text):
            value = str(value) if hints[name] is str else parse_literal(value)
        values[name] = value
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from None


def parse_literal(text: str) -> Any:
    """Reads a Python literal; true, false, none, null as YAML has them; else text."""
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return str(text)


def _dataclass_in(hint: Any) -> type | None:
    """Returns the dataclass that a hint (`X` or `X | None`) names, if it does."""
    candidates = (hint, *typing.get_args(hint))
    return next((c for c in candidates if dataclasses.is_dataclass(c)), None)  # type: ignore[return-value]
