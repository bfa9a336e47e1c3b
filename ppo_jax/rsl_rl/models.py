"""One model of rsl_rl's, as settings of ours: its encoders and its distribution."""

from collections.abc import Mapping
from typing import Any

from ppo_jax.options import dotted_path, load
from ppo_jax.rsl_rl.settings import UnsupportedFeature, require_class, what_is_given
from ppo_jax.rsl_rl.weights import HEAD_ROWS

DEFAULT_HIDDEN_DIMS = (256, 256, 256)  # rsl_rl's, where a plain dict gives none

PADDINGS = ("zeros", "reflect", "replicate", "circular")

# Models of one name that read images in two ways: {class: `spatial_softmax` here}.
SPATIAL_SOFTMAXES = {
    "isaaclab_tasks.core.lift.config.kuka_allegro.agents.models"
    ":SpatialSoftmaxCNNModel": "isaaclab",
    "mjlab.rl.spatial_softmax:SpatialSoftmaxCNNModel": "mjlab",
}

OF_KEYBOARD = "isaaclab_tasks.contrib.keyboard.agents.models:SharedEncoder"
SMOOTH_GAUSSIAN = (
    "isaaclab_tasks.contrib.ur10_particle_push.agents.rsl_rl_ppo_cfg"
    ":UR10ParticlePushGaussianDistribution"
)
SMOOTH_DEFAULTS = {"init_std": 0.6, "std_range": (0.15, 0.65)}

# What version 4 called the fields of a distribution, which were the model's.
OLD_DISTRIBUTION = {"init_noise_std": "init_std", "noise_std_type": "std_type"}


def model_settings(model: dict[str, Any], name: str) -> dict[str, Any]:
    """Returns a model's settings, its distribution as version 5 gives it."""
    translated = {"hidden_dims": DEFAULT_HIDDEN_DIMS} | model
    kind = _model_class(model)
    if "cnn_cfg" in model:
        softmax = SPATIAL_SOFTMAXES.get(kind, "none")
        start: Any = 1.0
        if softmax == "isaaclab":
            start = translated.pop("init_temperature", 1.0)
        translated["cnn_cfg"] = _encoders(model["cnn_cfg"], softmax, start)
    translated["class_name"] = "CNNModel" if kind in SPATIAL_SOFTMAXES else kind
    if kind == f"{OF_KEYBOARD}MLPModel":
        translated["class_name"] = "MLPModel"
    if "rnn_type" in model:  # whatever is no GRU is an LSTM in rsl_rl
        is_gru = str(model["rnn_type"]).lower() == "gru"
        translated["rnn_type"] = "gru" if is_gru else "lstm"
    noise = {
        new: translated.pop(old)
        for old, new in OLD_DISTRIBUTION.items()
        if old in translated
    }
    is_stochastic = translated.pop("stochastic", False)
    depends_on_state = translated.pop("state_dependent_std", False)
    distribution = what_is_given(translated.get("distribution_cfg"))
    if not distribution and is_stochastic:
        kind = "HeteroscedasticGaussian" if depends_on_state else "Gaussian"
        distribution = {"class_name": f"{kind}Distribution"} | noise
    if distribution:
        kind = require_class(
            distribution, "GaussianDistribution", *HEAD_ROWS, SMOOTH_GAUSSIAN
        )
        if kind == SMOOTH_GAUSSIAN:
            distribution = SMOOTH_DEFAULTS | distribution | {"std_type": "sigmoid"}
            kind = "GaussianDistribution"
        translated["distribution_cfg"] = distribution | {"class_name": kind}
    elif name != "critic":
        raise UnsupportedFeature(f"{name} without a distribution")
    return translated


def _model_class(model: Mapping[str, Any]) -> str:
    """Returns the class of a model: one that is known, or somebody's flax module."""
    known = ("RNNModel", "CNNModel", *SPATIAL_SOFTMAXES, f"{OF_KEYBOARD}MLPModel")
    try:
        return require_class(model, "MLPModel", *known)
    except UnsupportedFeature as error:
        if not _is_flax_module(error.feature):
            raise
        return error.feature


def _is_flax_module(path: str) -> bool:
    """Says whether a path is that of a flax module; torch's are those of others."""
    if dotted_path(path) is not None:
        return False
    import flax.linen as nn

    try:
        found = load(path, "class_name")
    except ValueError:
        return False
    return isinstance(found, type) and issubclass(found, nn.Module)


def _encoders(cnn_cfg: Mapping[str, Any], softmax: str, start: float) -> dict[str, Any]:
    """Returns the settings of all encoders, or {group: of its encoder}."""
    if all(isinstance(value, Mapping) for value in cnn_cfg.values()):
        return {name: _encoder(x, softmax, start) for name, x in cnn_cfg.items()}
    return _encoder(cnn_cfg, softmax, start)


def _encoder(cnn_cfg: Mapping[str, Any], softmax: str, start: float) -> dict[str, Any]:
    """Returns the settings of an encoder; one number stands for a list of it.

    Of a list that is longer than there are layers rsl_rl reads the beginning, and a
    padding that it does not know is none. A spatial softmax reads what is not
    flattened, whatever `flatten` says; mjlab's pools as little, and has its own keys.
    """
    given = what_is_given(cnn_cfg)
    if given.pop("flatten", True) is not True and softmax == "none":
        raise UnsupportedFeature("cnn_cfg.flatten = False")
    if softmax == "mjlab":
        given.pop("spatial_softmax", None)
        given.pop("global_pool", None)
        start = given.pop("spatial_softmax_temperature", 1.0)
    if softmax != "none":
        given |= {"spatial_softmax": softmax, "spatial_softmax_temperature": start}
    count = len(given.get("output_channels", ()))
    for name in ("kernel_size", "stride", "dilation", "norm", "max_pool"):
        value = given.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            given[name] = (value,)
        elif isinstance(value, list | tuple) and count:
            given[name] = tuple(value)[:count]
    if given.get("padding", "none") not in PADDINGS:
        given["padding"] = "none"
    return given
