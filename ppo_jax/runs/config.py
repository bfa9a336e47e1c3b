"""The configuration of a run: frozen dataclasses that check themselves.

The tree and its names are those of Isaac Lab's rsl_rl runner, so that what a user
knows from there (`algorithm.gamma`, `actor.hidden_dims`) means the same here.
How it is read, written and changed is `config_fields`. Nothing here needs JAX, but for
the two functions that make of it what learns.
"""

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ppo_jax.learning.config import DistillationConfig, PPOConfig, require_a_step
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
from ppo_jax.runs.loggers.names import loggers

if TYPE_CHECKING:
    from ppo_jax.types import ActionSpace, ActorCritic, Hyperparams


@dataclass(frozen=True)
class AlgorithmConfig(PPOConfig):
    """PPO with numbers: the static part and a starting value of each dynamic scalar."""

    class_name: str = option("PPO", "the algorithm", one_of("PPO"))
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


@dataclass(frozen=True)
class DistillationAlgorithm(DistillationConfig):
    """Distillation with numbers, and where its teacher is."""

    schedule: ClassVar[str] = "fixed"
    timeout_bootstrap: ClassVar[str] = "none"  # there are no values
    share_cnn_encoders: ClassVar[bool] = False

    class_name: str = option("Distillation", "the algorithm", one_of("Distillation"))
    learning_rate: float = option(1e-3, "learning rate", positive)
    max_grad_norm: float | None = option(
        None, "norm of the student's gradient; none: it is not clipped", positive
    )
    teacher_checkpoint: str = option(
        "", "the teacher: a run, a checkpoint of it or a .pt of rsl_rl"
    )


def _folder_name(value: str) -> str | None:
    allowed = re.fullmatch(r"(\w[\w.,+=@ -]*)?", value)
    return None if allowed else "a name for a folder: letters, digits, - and _"


def _device_count(value: int | str) -> str | None:
    is_right = value == "all" or (isinstance(value, int) and value > 0)
    return None if is_right else "a whole number above 0, or all"


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
    devices: int | Literal["all"] = option(
        1, "devices that share the environments of a task in JAX, or all", _device_count
    )
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
        "tensorboard",
        "where curves go: tensorboard, wandb, csv, none, package.module:Class, or "
        "several with commas",
        loggers,
    )
    wandb_project: str = option("ppo_jax", "project at W&B, or of another logger")
    upload_model: bool = option(False, "loggers are given the checkpoints too")
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
        {}, "observation groups of actor and critic, or of student and teacher"
    )
    actor: ModelConfig = option(
        ModelConfig(distribution_cfg=DistributionConfig()), "policy network"
    )
    critic: ModelConfig = option(ModelConfig(), "value network")
    student: ModelConfig | None = option(None, "Distillation: network that learns")
    teacher: ModelConfig | None = option(None, "Distillation: network that is imitated")
    algorithm: AlgorithmConfig | DistillationAlgorithm = option(
        AlgorithmConfig(), "PPO, or Distillation"
    )
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
        for name in ("actor", "student"):
            distribution = getattr(getattr(self, name), "distribution_cfg", None)
            if distribution is not None and distribution.init_std == 0.0:
                raise ValueError(
                    f"{name}.distribution_cfg.init_std = 0.0 is not allowed: what is "
                    "never tried is not learned; give a number above 0"
                )
        if isinstance(self.algorithm, DistillationAlgorithm):
            _check_distillation(self, self.algorithm)
        else:
            _check_ppo(self, self.algorithm)

    @property
    def ppo(self) -> AlgorithmConfig:
        """The settings of PPO.

        Raises:
          TypeError: it is a configuration of Distillation.
        """
        if isinstance(self.algorithm, AlgorithmConfig):
            return self.algorithm
        raise TypeError("a configuration of Distillation has no settings of PPO")


def _check_ppo(config: Config, algorithm: AlgorithmConfig) -> None:
    """Raises ValueError unless there are models, and samples for each minibatch."""
    for name in ("student", "teacher"):
        if getattr(config, name) is not None:
            raise ValueError(
                f"{name} is read by Distillation only: leave it away, or give "
                "algorithm.class_name = 'Distillation'"
            )
    samples = config.num_envs * config.num_steps_per_env
    if samples < 2 * algorithm.num_mini_batches:
        raise ValueError(
            f"num_envs * num_steps_per_env = {samples} samples are too few for "
            f"algorithm.num_mini_batches = {algorithm.num_mini_batches}: "
            "give more environments or fewer minibatches"
        )
    remembers = "RNNModel" in (config.actor.class_name, config.critic.class_name)
    if remembers and config.num_envs < algorithm.num_mini_batches:
        raise ValueError(
            f"num_envs = {config.num_envs} are too few for algorithm."
            f"num_mini_batches = {algorithm.num_mini_batches}: a network with "
            "memory learns from whole environments; give more of them or fewer "
            "minibatches"
        )


def _check_distillation(config: Config, algorithm: DistillationAlgorithm) -> None:
    """Raises ValueError unless there are both networks, and steps for a gradient."""
    require_a_step(algorithm, config.num_steps_per_env)
    for name in ("student", "teacher"):
        if getattr(config, name) is None:
            raise ValueError(
                f"there is no {name}, which Distillation needs: give {name}.hidden_dims"
            )
    for name in ("actor", "critic"):
        field = config.__dataclass_fields__[name]
        if getattr(config, name) != field.default:
            raise ValueError(
                f"{name} is read by PPO only: Distillation has a student and a "
                f"teacher; leave {name} away"
            )


def parts_of(
    config: Config, action_space: "ActionSpace"
) -> "tuple[ActorCritic, AlgorithmConfig, Hyperparams]":
    """Returns what `make_ppo` and `train` take: a network, statics and dynamic scalars.

    Of a configuration of PPO; `students.networks_of` has the two of a distillation.

    network, ppo_config, hparams = parts_of(config, env.action_space)
    ppo = make_ppo(network, ppo_config)
    """
    from ppo_jax.policies.actor_critic import actor_critic

    network = actor_critic(
        action_space,
        config.actor,
        config.critic,
        config.obs_groups,
        config.ppo.share_cnn_encoders,
    )
    return network, config.ppo, hyperparams(config.algorithm)


def hyperparams(algorithm: AlgorithmConfig | DistillationAlgorithm) -> "Hyperparams":
    """Returns the dynamic scalars of a configuration; what it has not is not read."""
    from ppo_jax.types import Hyperparams

    names = [name for name in Hyperparams._fields if hasattr(algorithm, name)]
    values = {name: getattr(algorithm, name) for name in names}
    if values.get("desired_kl", 0.0) is None:
        values["desired_kl"] = 0.0  # unread when the rate is fixed
    if values["max_grad_norm"] is None:
        values["max_grad_norm"] = math.inf
    return Hyperparams(**values)
