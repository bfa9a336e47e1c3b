"""What rsl_rl's runners are configured with, as a configuration of ours."""

from collections.abc import Mapping
from typing import Any

from ppo_jax.options import nearest
from ppo_jax.rsl_rl.models import OF_KEYBOARD, model_settings
from ppo_jax.rsl_rl.settings import require_class, what_is_given
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
    runner = what_is_given(runner)
    if require_class(runner, "OnPolicyRunner", DISTILLATION) == DISTILLATION:
        return from_dict(_distillation(runner) | overrides)
    if what_is_given(runner.get("algorithm")).get("class_name") == "Distillation":
        return from_dict(_distillation(runner) | overrides)
    algorithm = _algorithm(runner.pop("algorithm", {}))
    actor, critic = _models(runner, algorithm.get("share_cnn_encoders", False))
    data = {key: value for key, value in runner.items() if key not in IGNORED}
    data |= overrides | {"algorithm": algorithm, "actor": actor, "critic": critic}
    return from_dict(data)


def _algorithm(algorithm: Mapping[str, Any]) -> dict[str, Any]:
    given = what_is_given(algorithm)
    if require_class(given, "PPO", f"{OF_KEYBOARD}PPO") != "PPO":
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
        translated["rnd_cfg"] = what_is_given(translated["rnd_cfg"])
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
    given = what_is_given(runner.pop("algorithm", {}))
    translated = {key: value for key, value in given.items() if key not in IGNORED}
    if given.get("class_name") == "PPO":
        raise ValueError("class_name = 'DistillationRunner' is of a student, not PPO")
    translated["class_name"] = require_class(given, "Distillation")
    if translated.pop("use_mixed_precision", False):
        translated["precision"] = "bfloat16"
    if not translated.get("max_grad_norm"):
        translated["max_grad_norm"] = None  # 0 does not clip in rsl_rl either
    if "optimizer" in translated:
        translated["optimizer"] = str(translated["optimizer"]).lower()
    data: dict[str, Any] = {"algorithm": translated}
    for name in ("student", "teacher"):
        model = what_is_given(runner.pop(name, {}))
        if not model:
            raise ValueError(f"there is no {name}, which Distillation needs")
        data[name] = model_settings(model, name)
    return data | {k: v for k, v in runner.items() if k not in IGNORED}


def _symmetry(symmetry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of the symmetry, its function as a path."""
    given = what_is_given(symmetry)
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
    policy = what_is_given(runner.pop("policy", {}))
    is_normalized = runner.pop("empirical_normalization", False)
    if is_normalized and not policy:
        raise ValueError(
            f"empirical_normalization = {is_normalized} is not read without 'policy': "
            "give actor and critic obs_normalization = true"
        )

    def model(name: str) -> dict[str, Any]:
        given = what_is_given(_without_layers(runner.pop(name, {})))
        if not given and policy:
            given = _part_of_policy(policy, name, is_normalized)
        return given

    actor, critic = model("actor"), model("critic")
    if shares and "cnn_cfg" in actor:
        critic["cnn_cfg"] = actor["cnn_cfg"]
    return model_settings(actor, "actor"), model_settings(critic, "critic")


def _without_layers(model: Any) -> Any:
    """Returns a model's settings without those of recurrent layers that it has not."""
    if not isinstance(model, Mapping) or model.get("rnn_type", "") is not None:
        return model
    return {key: x for key, x in model.items() if not key.startswith("rnn_")}


def _part_of_policy(
    policy: Mapping[str, Any], name: str, is_normalized: bool
) -> dict[str, Any]:
    """Returns the model `name` of what held both models before version 4."""
    kind = require_class(policy, "ActorCritic", "ActorCriticRecurrent")
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
