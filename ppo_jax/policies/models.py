"""What a network is, as configuration."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from ppo_jax.options import (
    MAX_INT32,
    check_options,
    nearest,
    one_of,
    option,
    positive,
    rising_pair,
)
from ppo_jax.policies.activations import ACTIVATIONS
from ppo_jax.policies.conv import CNNConfig


def _hidden_dims(value: Sequence[int]) -> str | None:
    allowed = value and all(0 < dim <= MAX_INT32 or dim == -1 for dim in value)
    return None if allowed else "at least one layer width above 0 (-1: input width)"


def _activation(value: str) -> str | None:
    if value.lower() in ACTIVATIONS:
        return None
    return f"an activation ({nearest(value, ACTIVATIONS)})"


@dataclass(frozen=True)
class DistributionConfig:
    """How the network's output becomes a distribution of continuous actions."""

    class_name: str = option(
        "GaussianDistribution",
        "kind of distribution",
        one_of(
            "GaussianDistribution",
            "HeteroscedasticGaussianDistribution",
            "BetaDistribution",
        ),
    )
    init_std: float = option(1.0, "standard deviation at the start", positive)
    std_type: str = option(
        "scalar", "what is learned: the std or its logarithm", one_of("scalar", "log")
    )
    std_range: tuple[float, float] = option(
        (1e-6, 1e6), "limits of the standard deviation", rising_pair
    )
    learn_std: bool = option(True, "whether the Gaussian's std is learned")
    action_range: tuple[float, float] = option(
        (-1.0, 1.0), "range of the Beta distribution's actions", rising_pair
    )

    def __post_init__(self) -> None:
        """Checks every field."""
        check_options(self)


@dataclass(frozen=True)
class ModelConfig:
    """One network: the actor or the critic."""

    class_name: str = option(
        "MLPModel", "kind of network", one_of("MLPModel", "RNNModel", "CNNModel")
    )
    hidden_dims: tuple[int, ...] = option(
        (64, 64), "width of each hidden layer", _hidden_dims
    )
    activation: str = option("elu", "activation of the hidden layers", _activation)
    obs_normalization: bool = option(False, "normalise observations by running stats")
    distribution_cfg: DistributionConfig | None = option(
        None, "distribution of the actions; the actor's only"
    )
    cnn_cfg: CNNConfig | None = option(None, "CNNModel: encoder of each image")
    rnn_type: str = option(
        "lstm", "RNNModel: kind of its layers", one_of("lstm", "gru")
    )
    rnn_hidden_dim: int = option(256, "RNNModel: units of each layer", positive)
    rnn_num_layers: int = option(1, "RNNModel: recurrent layers", positive)

    def __post_init__(self) -> None:
        """Checks every field, and that the kind of network reads it.

        An activation has one name, in small letters.
        """
        check_options(self)
        object.__setattr__(self, "activation", self.activation.lower())
        if self.class_name == "CNNModel" and self.cnn_cfg is None:
            raise ValueError(
                "class_name is 'CNNModel', but there is no cnn_cfg: give the encoder "
                "of its images, such as cnn_cfg.output_channels = [16, 32]"
            )
        owners = {"rnn_": "RNNModel", "cnn_": "CNNModel"}
        for field in fields(self):
            owner = owners.get(field.name[:4], self.class_name)
            value = getattr(self, field.name)
            if owner != self.class_name and value != field.default:
                raise ValueError(
                    f"{field.name} = {value!r} is read by an {owner} only, and "
                    f"class_name is {self.class_name!r}: give class_name = {owner!r}, "
                    f"or leave {field.name} away"
                )
