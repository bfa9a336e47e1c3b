"""What rsl_rl's runners are configured with, as a configuration of ours."""

import re
from collections.abc import Mapping
from dataclasses import MISSING
from typing import Any

from ppo_jax.options import dotted_path, load, nearest
from ppo_jax.rsl_rl.weights import HEAD_ROWS
from ppo_jax.runs.config import AlgorithmConfig, Config
from ppo_jax.runs.config_fields import from_dict

# Settings of rsl_rl that say where or how it runs, not what it computes.
IGNORED = {
    "device",
    "class_name",
    "load_run",
    "load_checkpoint",
    "resume",
    "torch_compile_mode",
    "wandb_project",
    "wandb_tags",
    "upload_model",
    "neptune_project",
    "logger",
    "multi_gpu",
    "grad_reduce_bucket_mb",
    "store_code_state",
}
DISTILLATION = "DistillationRunner"
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


class UnsupportedFeature(ValueError):
    """An rsl_rl configuration asks for what is not here; `feature` names it."""

    def __init__(self, feature: str) -> None:
        """Keeps the feature's name; that of somebody's class is its path."""
        self.feature = feature
        owner = "" if re.search(r"[.:]", feature) else "rsl_rl's "
        super().__init__(f"{owner}{feature} is not supported yet")


def config_from_rsl_rl(runner: Mapping[str, Any], **overrides: Any) -> Config:
    """Returns the configuration that means the same as an rsl_rl runner's.

    What is None, {} or MISSING is not given; what describes recurrent layers neither,
    where their `rnn_type` is None, as mjlab has it. Settings of older versions are read
    as Isaac Lab reads them: `policy` and `empirical_normalization` of before version 4
    where a model is not given, and version 4's noise of a model where its
    `distribution_cfg` is not.

    Args:
      runner: the runner's configuration as nested dicts, `to_dict()` of Isaac Lab's.
      **overrides: top-level fields that rsl_rl does not have, such as task, num_envs.

    Raises:
      UnsupportedFeature: it asks for a feature that is not here; names it.
      ValueError: a key is unknown, or a value is not allowed.
    """
    runner = _given(runner)
    if _require_class(runner, "OnPolicyRunner", DISTILLATION) == DISTILLATION:
        return from_dict(_distillation(runner) | overrides)
    if _given(runner.get("algorithm")).get("class_name") == "Distillation":
        return from_dict(_distillation(runner) | overrides)
    algorithm = _algorithm(runner.pop("algorithm", {}))
    actor, critic = _models(runner, algorithm.get("share_cnn_encoders", False))
    data = {key: value for key, value in runner.items() if key not in IGNORED}
    data |= overrides | {"algorithm": algorithm, "actor": actor, "critic": critic}
    return from_dict(data)


def _algorithm(algorithm: Mapping[str, Any]) -> dict[str, Any]:
    given = _given(algorithm)
    if _require_class(given, "PPO", f"{OF_KEYBOARD}PPO") != "PPO":
        given["share_cnn_encoders"] = True  # of vectors; moved once, as here
    translated = {key: value for key, value in given.items() if key not in IGNORED}
    if "share_cnn_encoders" in translated:  # anything that is true
        translated["share_cnn_encoders"] = bool(translated["share_cnn_encoders"])
    if algorithm.get("desired_kl", 0.0) is None:
        translated["desired_kl"] = None  # says something: the rate is fixed
    known = AlgorithmConfig.__dataclass_fields__
    for key in translated:
        if key not in known:
            raise ValueError(
                f"there is no option 'algorithm.{key}': {nearest(key, known)}"
            )
    if "rnd_cfg" in translated:
        translated["rnd_cfg"] = _given(translated["rnd_cfg"])
    if "symmetry_cfg" in translated:
        translated["symmetry_cfg"] = _symmetry(translated["symmetry_cfg"])
    if translated.get("schedule", "adaptive") != "adaptive":
        translated["schedule"] = "fixed"  # any other word means that in rsl_rl
    if "optimizer" in translated:
        translated["optimizer"] = str(translated["optimizer"]).lower()
    return translated


def _distillation(runner: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings of a student and a teacher.

    Raises:
      ValueError: a model is not given, or an extension that distillation has not is.
    """
    given = _given(runner.pop("algorithm", {}))
    translated = {key: value for key, value in given.items() if key not in IGNORED}
    if given.get("class_name") == "PPO":
        raise ValueError("class_name = 'DistillationRunner' is of a student, not PPO")
    translated["class_name"] = _require_class(given, "Distillation")
    if translated.pop("use_mixed_precision", False):
        translated["precision"] = "bfloat16"
    if not translated.get("max_grad_norm"):
        translated["max_grad_norm"] = None  # 0 does not clip in rsl_rl either
    if "optimizer" in translated:
        translated["optimizer"] = str(translated["optimizer"]).lower()
    data: dict[str, Any] = {"algorithm": translated}
    for name in ("student", "teacher"):
        model = _given(runner.pop(name, {}))
        if not model:
            raise ValueError(f"there is no {name}, which Distillation needs")
        data[name] = _model(model, name)
    return data | {k: v for k, v in runner.items() if k not in IGNORED}


def _symmetry(symmetry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of the symmetry, its function as a path."""
    given = _given(symmetry)
    augment = given.get("data_augmentation_func")
    if callable(augment):
        path = f"{augment.__module__}:{getattr(augment, '__qualname__', '')}"
        given["data_augmentation_func"] = path
    return given


def _models(
    runner: dict[str, Any], shares: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Takes actor and critic out of a runner's settings, and what they were before.

    What the critic says of encoders is not read where it shares the actor's.
    """
    policy = _given(runner.pop("policy", {}))
    is_normalized = runner.pop("empirical_normalization", False)
    if is_normalized and not policy:
        raise ValueError(
            f"empirical_normalization = {is_normalized} is not read without 'policy': "
            "give actor and critic obs_normalization = true"
        )

    def model(name: str) -> dict[str, Any]:
        given = _given(_without_layers(runner.pop(name, {})))
        if not given and policy:
            given = _part_of_policy(policy, name, is_normalized)
        return given

    actor, critic = model("actor"), model("critic")
    if shares and "cnn_cfg" in actor:
        critic["cnn_cfg"] = actor["cnn_cfg"]
    return _model(actor, "actor"), _model(critic, "critic")


def _without_layers(model: Any) -> Any:
    """Returns a model's settings without those of recurrent layers that it has not."""
    if not isinstance(model, Mapping) or model.get("rnn_type", "") is not None:
        return model
    return {key: x for key, x in model.items() if not key.startswith("rnn_")}


def _part_of_policy(
    policy: Mapping[str, Any], name: str, is_normalized: bool
) -> dict[str, Any]:
    """Returns the model `name` of what held both models before version 4."""
    kind = _require_class(policy, "ActorCritic", "ActorCriticRecurrent")
    model: dict[str, Any] = {"obs_normalization": is_normalized}
    if kind == "ActorCriticRecurrent":
        model["class_name"] = "RNNModel"
    for key, value in policy.items():
        owner, _, field = key.partition("_")
        if owner == name:
            model[field] = value
        elif owner not in ("actor", "critic") and key != "class_name":
            model[key] = value
    return model | {"stochastic": name == "actor"}


def _model(model: dict[str, Any], name: str) -> dict[str, Any]:
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
    distribution = _given(translated.get("distribution_cfg"))
    if not distribution and is_stochastic:
        kind = "HeteroscedasticGaussian" if depends_on_state else "Gaussian"
        distribution = {"class_name": f"{kind}Distribution"} | noise
    if distribution:
        kind = _require_class(
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
        return _require_class(model, "MLPModel", *known)
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
    given = _given(cnn_cfg)
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


def _given(settings: Any) -> dict[str, Any]:
    """Returns the settings that say something."""
    if not isinstance(settings, Mapping):
        return {}
    return {
        key: value
        for key, value in settings.items()
        if value is not None and value != {} and not isinstance(value, type(MISSING))
    }


def _require_class(settings: Mapping[str, Any], default: str, *others: str) -> str:
    """Returns which of the classes that are here the settings ask for.

    rsl_rl takes a name, a path ("rsl_rl.models:MLPModel", with a colon or a dot) or
    a class.
    """
    asked = settings.get("class_name", default)
    if not isinstance(asked, str):
        asked = f"{asked.__module__}:{asked.__qualname__}"
    if asked.startswith("rsl_rl."):
        asked = re.split(r"[.:]", asked)[-1]
    elif ":" not in asked:  # "a.b.C" is "a.b:C"
        asked = ":".join(asked.rsplit(".", 1))
    if asked not in (default, *others):
        raise UnsupportedFeature(str(asked))
    return str(asked)
