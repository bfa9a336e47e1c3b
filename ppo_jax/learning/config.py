"""What fixes the shapes and the control flow of learning."""

from dataclasses import InitVar, dataclass

from ppo_jax.options import (
    check_options,
    dotted_path,
    not_negative,
    one_of,
    option,
    positive,
    shown,
)

# "default" is what JAX takes: float32, of which many cards round the factors to TF32.
PRECISIONS = ("highest", "default", "bfloat16")
OPTIMIZER_NAMES = ("adam", "adamw", "sgd", "rmsprop")  # they are in `optimizers`


@dataclass(frozen=True)
class SymmetryConfig:
    """How the symmetry of a task is used. With neither use, its loss is reported."""

    data_augmentation_func: str = option(
        "", "function in JAX, (obs, action) to both in K copies", dotted_path
    )
    use_data_augmentation: bool = option(False, "learn from mirrored samples as well")
    use_mirror_loss: bool = option(False, "add the mirror loss to the loss")
    mirror_loss_coeff: float = option(0.0, "weight of the mirror loss", not_negative)

    def __post_init__(self) -> None:
        """Checks every field."""
        check_options(self)


@dataclass(frozen=True)
class WeightSchedule:
    """How the weight of the intrinsic reward goes on, in steps of an environment."""

    mode: str = option(
        "constant", "how the weight changes", one_of("constant", "step", "linear")
    )
    initial_step: int = option(0, "where linear begins", not_negative)
    final_step: int = option(1, "where linear ends, or step falls", positive)
    final_value: float = option(0.0, "weight from the final step on", not_negative)

    def __post_init__(self) -> None:
        """Checks every field."""
        check_options(self)
        if self.mode == "linear" and self.final_step <= self.initial_step:
            raise ValueError(
                f"final_step = {self.final_step} is not after initial_step = "
                f"{self.initial_step}: give a later one"
            )


@dataclass(frozen=True)
class RNDConfig:
    """Random network distillation, with rsl_rl's names."""

    weight: float = option(0.0, "weight of the intrinsic reward, per s", not_negative)
    weight_schedule: WeightSchedule | None = option(None, "how the weight goes on")
    reward_normalization: bool = option(
        False, "divide novelty by the spread of its discounted sum"
    )
    state_normalization: bool = option(False, "normalise RND's observations")
    learning_rate: float = option(1e-3, "learning rate of the predictor", positive)
    num_outputs: int = option(1, "outputs of predictor and target", positive)
    predictor_hidden_dims: tuple[int, ...] = option(
        (-1,), "hidden layers of the predictor; -1: input width"
    )
    target_hidden_dims: tuple[int, ...] = option(
        (-1,), "hidden layers of the target; -1: input width"
    )
    activation: str = option("elu", "activation of both networks")

    def __post_init__(self) -> None:
        """Checks every field."""
        check_options(self)


_PRECISION_HELP = (
    "matrix products: highest is float32 in full, as torch's; default is JAX's, "
    "TF32 on many cards; bfloat16 in the update, where acting is as default"
)


@dataclass(frozen=True)
class PPOConfig:
    """What fixes shapes and control flow; another value is another program."""

    num_learning_epochs: int = option(5, "passes over each rollout", positive)
    num_mini_batches: int = option(4, "gradient steps per pass", positive)
    schedule: str = option(
        "adaptive",
        "learning rate: follows the KL, or stays",
        one_of("adaptive", "fixed"),
    )
    optimizer: str = option("adam", "optimizer", one_of(*OPTIMIZER_NAMES))
    use_clipped_value_loss: bool = option(True, "limit how far one update moves V")
    normalize_advantage_per_mini_batch: bool = option(
        False, "normalise advantages in each minibatch, not over the rollout"
    )
    normalize_advantage_per_device: bool = option(
        False,
        "of a policy that learns on many devices: normalise advantages on each alone, "
        "as rsl_rl does",
    )
    micro_batches: int = option(
        1, "parts of a minibatch, one after another: less memory", positive
    )
    timeout_bootstrap: str = option(
        "auto",
        "value after a time-out: V(final_obs) exact, V(o_t) as rsl_rl, none; "
        "auto is final_obs where the environment gives it, else last_value",
        one_of("auto", "final_obs", "last_value", "none"),
    )
    reshuffle_each_epoch: bool = option(
        False, "a new permutation for each pass, not one per rollout"
    )
    share_cnn_encoders: bool = option(
        False, "one set of encoders for actor and critic; they are the actor's"
    )
    shared_encoder_updates: str = option(
        "once",
        "steps of shared encoders in each minibatch: once, or twice as rsl_rl",
        one_of("once", "twice"),
    )
    precision: str = option("default", _PRECISION_HELP, one_of(*PRECISIONS))
    symmetry_cfg: SymmetryConfig | None = option(
        None, "mirrored samples, or a loss for what is not symmetric"
    )
    rnd_cfg: RNDConfig | None = option(None, "a reward for what has not been seen")
    use_mixed_precision: InitVar[bool | None] = None  # what "bfloat16" was before

    def __post_init__(self, use_mixed_precision: bool | None) -> None:
        """Checks every field."""
        _read_mixed_precision(self, use_mixed_precision)
        check_options(self)


@dataclass(frozen=True)
class DistillationConfig:
    """What fixes shapes and control flow where a student imitates a teacher."""

    num_learning_epochs: int = option(1, "passes over each rollout", positive)
    gradient_length: int = option(
        15, "steps in time to a gradient step; memory is cut there", positive
    )
    micro_batches: int = option(
        1, "parts of the environments, one after another: less memory", positive
    )
    loss_type: str = option(
        "mse", "loss of an action that is not the teacher's", one_of("mse", "huber")
    )
    optimizer: str = option("adam", "optimizer", one_of(*OPTIMIZER_NAMES))
    precision: str = option("default", _PRECISION_HELP, one_of(*PRECISIONS))
    rsl_rl_memory: bool = option(
        False,
        "memory after an update as in rsl_rl: the student's taken again with its new "
        "weights, the teacher's forgotten",
    )

    def __post_init__(self) -> None:
        """Checks every field."""
        check_options(self)


def advantage_axis(config: PPOConfig, axis: str | None) -> str | None:
    """Returns the axis of the shards whose advantages are normalised together."""
    return None if config.normalize_advantage_per_device else axis


def require_a_step(config: DistillationConfig, num_steps: int) -> int:
    """Returns how many steps of all passes are left over, and not learned from.

    Raises:
      ValueError: all of them would be.
    """
    total = config.num_learning_epochs * num_steps
    if config.gradient_length > total:
        raise ValueError(
            f"gradient_length = {config.gradient_length}, but num_learning_epochs * "
            f"num_steps_per_env = {total}: nothing would be learned; give at most that"
        )
    return total % config.gradient_length


def _read_mixed_precision(config: PPOConfig, use: bool | None) -> None:
    """Sets the precision as the option said that was there before it."""
    if use not in (None, True, False):
        raise ValueError(
            f"use_mixed_precision = {shown(use)}: give precision = 'bfloat16' or "
            "'default' instead"
        )
    told = {None: config.precision, True: "bfloat16", False: "default"}[use]
    if told != config.precision and config.precision != "default":
        raise ValueError(
            f"use_mixed_precision = {use} and precision = {shown(config.precision)} "
            "are two things: leave use_mixed_precision away"
        )
    object.__setattr__(config, "precision", told)
