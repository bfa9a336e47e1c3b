"""What a network is, as configuration."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from ppo_jax.options import (
    MAX_INT32,
    check_options,
    nearest,
    not_negative,
    one_of,
    option,
    positive,
    rising_pair,
)

# By the names that rsl_rl gives them; the functions are in `activations`.
ACTIVATION_NAMES = (
    *("elu", "selu", "relu", "crelu", "lrelu", "tanh", "sigmoid", "softplus", "gelu"),
    *("swish", "mish", "identity"),
)


def _hidden_dims(value: Sequence[int]) -> str | None:
    allowed = value and all(0 < dim <= MAX_INT32 or dim == -1 for dim in value)
    return None if allowed else "at least one layer width above 0 (-1: input width)"


def _activation(value: str) -> str | None:
    if value.lower() in ACTIVATION_NAMES:
        return None
    return f"an activation ({nearest(value, ACTIVATION_NAMES)})"


def _widths(value: tuple[int, ...]) -> str | None:
    allowed = value and all(number > 0 for number in value)
    return None if allowed else "at least one number, all above 0"


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
    init_std: float = option(1.0, "standard deviation at the start", not_negative)
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
        """Checks every field; 0 is for a policy that is never drawn from, a teacher."""
        check_options(self)
        if self.std_type == "log" and self.init_std == 0.0:
            raise ValueError(
                "init_std = 0.0 has no logarithm, which std_type = 'log' learns: give "
                "a number above 0"
            )


def _norm(value: str | tuple[str, ...]) -> str | None:
    for word in (value,) if isinstance(value, str) else value:
        if word == "batch":
            return (
                "none or layer: a batch norm depends on who else is in the minibatch, "
                "also while acting"
            )
        fix = one_of("none", "layer")(word)
        if fix:
            return fix
    return None


class ConvLayer(NamedTuple):
    """One layer of an encoder."""

    channels: int
    kernel: int
    stride: int
    dilation: int
    norm: str
    max_pool: bool


@dataclass(frozen=True)
class CNNConfig:
    """The encoder of an image. One value, or a list of one, holds for all layers."""

    output_channels: tuple[int, ...] = option(
        (16, 32), "channels of each layer", _widths
    )
    kernel_size: tuple[int, ...] = option((3,), "width of each kernel", _widths)
    stride: tuple[int, ...] = option((1,), "step of each kernel", _widths)
    dilation: tuple[int, ...] = option((1,), "spread of each kernel", _widths)
    padding: str = option(
        "none",
        "what surrounds an image",
        one_of("none", "zeros", "reflect", "replicate", "circular"),
    )
    norm: str | tuple[str, ...] = option(
        "none", "normalisation of each layer, over C, H, W: none or layer", _norm
    )
    activation: str = option("elu", "activation of each layer", _activation)
    max_pool: bool | tuple[bool, ...] = option(
        False, "halve each layer's output by its maxima"
    )
    global_pool: str = option(
        "none", "one number for each channel at the end", one_of("none", "max", "avg")
    )
    spatial_softmax: str = option(
        "none",
        "where each channel is largest, instead of its pixels: isaaclab (of scaled "
        "images, temperatures learned) or mjlab (one temperature)",
        one_of("none", "isaaclab", "mjlab"),
    )
    spatial_softmax_temperature: float = option(
        1.0, "temperature of that softmax, or where it starts", positive
    )

    def __post_init__(self) -> None:
        """Checks every field, and that the lists are of one length."""
        check_options(self)
        for name in ("kernel_size", "stride", "dilation", "norm", "max_pool"):
            value = getattr(self, name)
            count = len(value) if isinstance(value, tuple) else 1
            if count not in (1, len(self.output_channels)):
                raise ValueError(
                    f"{name} has {count} values, but output_channels has "
                    f"{len(self.output_channels)}: give one for each layer, or one"
                )
        if self.spatial_softmax != "none" and self.global_pool != "none":
            raise ValueError(
                f"global_pool = {self.global_pool!r} forgets where things are, which "
                f"spatial_softmax = {self.spatial_softmax!r} tells: leave one away"
            )

    def layers(self) -> list[ConvLayer]:
        """Returns what describes each layer."""
        count = len(self.output_channels)
        lists = (
            value * count if len(value) == 1 else value
            for value in (
                self.kernel_size,
                self.stride,
                self.dilation,
                _as_tuple(self.norm),
                _as_tuple(self.max_pool),
            )
        )
        return [*map(ConvLayer, self.output_channels, *lists)]


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


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
    cnn_cfg: CNNConfig | dict[str, CNNConfig] | None = option(
        None, "CNNModel: encoder of all images, or {group: encoder}"
    )
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

    def encoder_of(self, group: str) -> CNNConfig:
        """Returns the configuration of an image's encoder.

        Raises:
          ValueError: there is none for this group.
        """
        if not isinstance(self.cnn_cfg, dict):
            assert self.cnn_cfg
            return self.cnn_cfg
        if group not in self.cnn_cfg:
            raise ValueError(
                f"cnn_cfg has an encoder for {', '.join(self.cnn_cfg)}, but none for "
                f"the image {group!r}: give one for each"
            )
        return self.cnn_cfg[group]
