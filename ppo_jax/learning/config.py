"""What fixes the shapes and the control flow of learning."""

from dataclasses import dataclass

from ppo_jax.learning.optimizers import OPTIMIZERS
from ppo_jax.learning.rnd import RNDConfig
from ppo_jax.learning.symmetry import SymmetryConfig
from ppo_jax.options import check_options, one_of, option, positive


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
    optimizer: str = option("adam", "optimizer", one_of(*OPTIMIZERS))
    use_clipped_value_loss: bool = option(True, "limit how far one update moves V")
    normalize_advantage_per_mini_batch: bool = option(
        False, "normalise advantages in each minibatch, not over the rollout"
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
    use_mixed_precision: bool = option(
        False, "bfloat16 matrix products in the update; acting stays float32"
    )

    symmetry_cfg: SymmetryConfig | None = option(
        None, "mirrored samples, or a loss for what is not symmetric"
    )

    rnd_cfg: RNDConfig | None = option(None, "a reward for what has not been seen")

    def __post_init__(self) -> None:
        """Checks every field."""
        check_options(self)
