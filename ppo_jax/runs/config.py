"""The configuration of a run: frozen dataclasses that check themselves.

The tree and its names are those of Isaac Lab's rsl_rl runner, so that what a user
knows from there (`algorithm.gamma`, `actor.hidden_dims`) means the same here.
How it is read, written and changed is `config_fields`. Nothing here needs JAX, but for
the two functions that make of it what learns.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ppo_jax.learning.config import PPOConfig
from ppo_jax.options import (
    MAX_INT32,
    check_options,
    fraction,
    not_negative,
    one_of,
    option,
    positive,
    seed_number,
)
from ppo_jax.policies.models import DistributionConfig, ModelConfig

if TYPE_CHECKING:
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

    def __post_init__(self, use_mixed_precision: bool | None) -> None:
        """Checks every field; without a desired KL the schedule is fixed."""
        super().__post_init__(use_mixed_precision)
        if self.desired_kl is None:
            object.__setattr__(self, "schedule", "fixed")


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
        "auto is in_jit; host is for debugging",
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
        remembers = "RNNModel" in (self.actor.class_name, self.critic.class_name)
        if remembers and self.num_envs < self.algorithm.num_mini_batches:
            raise ValueError(
                f"num_envs = {self.num_envs} are too few for algorithm."
                f"num_mini_batches = {self.algorithm.num_mini_batches}: a network with "
                "memory learns from whole environments; give more of them or fewer "
                "minibatches"
            )


def parts_of(
    config: Config, action_space: "ActionSpace"
) -> "tuple[ActorCritic, AlgorithmConfig, Hyperparams]":
    """Returns what `make_ppo` and `train` take: a network, statics and dynamic scalars.

    network, ppo_config, hparams = parts_of(config, env.action_space)
    ppo = make_ppo(network, ppo_config)
    """
    from ppo_jax.policies.actor_critic import actor_critic

    network = actor_critic(
        action_space,
        config.actor,
        config.critic,
        config.obs_groups,
        config.algorithm.share_cnn_encoders,
    )
    return network, config.algorithm, hyperparams(config.algorithm)


def hyperparams(algorithm: AlgorithmConfig) -> "Hyperparams":
    """Returns the dynamic scalars of a configuration."""
    from ppo_jax.types import Hyperparams

    values = {name: getattr(algorithm, name) for name in Hyperparams._fields}
    values["desired_kl"] = algorithm.desired_kl or 0.0  # unread when the rate is fixed
    return Hyperparams(**values)
