"""What a network is, as configuration."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from ppo_jax.options import (
    MAX_INT32,
    check_options,
    dotted_path,
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

INITIALIZATIONS = ("torch", "orthogonal")


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
            "TanhGaussianDistribution",
        ),
    )
    init_std: float = option(1.0, "standard deviation at the start", not_negative)
    std_type: str = option(
        "scalar",
        "what is learned: the std, its logarithm, or its place in the range (sigmoid)",
        one_of("scalar", "log", "sigmoid"),
    )
    std_range: tuple[float, float] = option(
        (1e-6, 1e6), "limits of the standard deviation", rising_pair
    )
    learn_std: bool = option(True, "whether the Gaussian's std is learned")
    action_range: tuple[float, float] = option(
        (-1.0, 1.0), "range of the actions, of Beta and TanhGaussian", rising_pair
    )

    def __post_init__(self) -> None:
        """Checks every field; 0 is for a policy that is never drawn from, a teacher."""
        check_options(self)
        if self.std_type == "log" and self.init_std == 0.0:
            raise ValueError(
                "init_std = 0.0 has no logarithm, which std_type = 'log' learns: give "
                "a number above 0"
            )
        if self.std_type != "sigmoid":
            return
        if "Heteroscedastic" in self.class_name:
            raise ValueError(
                f"std_type = 'sigmoid' is not read by a {self.class_name}: give "
                "'scalar' or 'log'"
            )
        low, high = self.std_range
        if not 0.0 < low < self.init_std < high:
            raise ValueError(
                f"init_std = {self.init_std} and std_range = {[low, high]} with "
                "std_type = 'sigmoid': give a range above 0 with init_std inside it"
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
class EncoderConfig:
    """Layers that one observation group of vectors passes before all others join it."""

    hidden_dims: tuple[int, ...] = option(
        (256,), "width of each hidden layer", _hidden_dims
    )
    latent_dim: int = option(64, "numbers that come out", positive)
    activation: str = option("elu", "activation of the hidden layers", _activation)
    last_activation: str | None = option(
        None, "activation of what comes out; none: linear", _activation
    )

    def __post_init__(self) -> None:
        """Checks every field."""
        check_options(self)


CLASS_NAMES = ("MLPModel", "RNNModel", "CNNModel")


def is_own_class(class_name: str) -> bool:
    """Says whether a `class_name` is the path of somebody's flax module."""
    return dotted_path(class_name) is None


def _class_name(value: str) -> str | None:
    if is_own_class(value):
        return None
    fix = one_of(*CLASS_NAMES)(value)
    return fix and f"{fix}, or 'package.module:Class' of a flax module"


@dataclass(frozen=True)
class ModelConfig:
    """One network: the actor or the critic."""

    class_name: str = option(
        "MLPModel",
        f"kind of network: {', '.join(CLASS_NAMES)}, or module:Class of your own",
        _class_name,
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
    encoder_cfg: dict[str, EncoderConfig] = option(
        {}, "MLPModel: {group: layers of its own}"
    )
    layer_norm: bool = option(False, "normalise hidden layers before the activation")
    initialization: str = option(
        "torch", "of linear layers: as torch, or orthogonal", one_of(*INITIALIZATIONS)
    )
    hidden_gain: float = option(2**0.5, "orthogonal: gain of hidden layers", positive)
    output_gain: float = option(1.0, "orthogonal: gain of the last layer", positive)
    rnn_type: str = option(
        "lstm", "RNNModel: kind of its layers", one_of("lstm", "gru")
    )
    rnn_hidden_dim: int = option(256, "RNNModel: units of each layer", positive)
    rnn_num_layers: int = option(1, "RNNModel: recurrent layers", positive)

    def __post_init__(self) -> None:
        """Checks every field, and that the kind of network reads it.

        An activation has one name, in small letters.
        """
        if isinstance(self.class_name, str) and "." in self.class_name:
            path = self.class_name  # "a.b.C" is "a.b:C"
            path = path if ":" in path else ":".join(path.rsplit(".", 1))
            object.__setattr__(self, "class_name", path)
        check_options(self)
        object.__setattr__(self, "activation", self.activation.lower())
        if self.class_name == "CNNModel" and self.cnn_cfg is None:
            raise ValueError(
                "class_name is 'CNNModel', but there is no cnn_cfg: give the encoder "
                "of its images, such as cnn_cfg.output_channels = [16, 32]"
            )
        if is_own_class(self.class_name):
            return  # reads what it likes
        owners = {"rnn": "RNNModel", "cnn": "CNNModel", "encoder": "MLPModel"}
        for field in fields(self):
            owner = owners.get(field.name.partition("_")[0], self.class_name)
            value = getattr(self, field.name)
            if owner != self.class_name and value not in (field.default, {}):
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
