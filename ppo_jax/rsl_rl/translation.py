"""What rsl_rl wrote, as ours: its configurations and its torch state dicts, and back.

Neither torch nor rsl_rl is imported: a state dict is a mapping from names to arrays.
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING
from itertools import pairwise
from typing import Any

import jax.numpy as jnp
import numpy as np

from ppo_jax.options import nearest
from ppo_jax.policies.networks import DistributionConfig, ModelConfig
from ppo_jax.policies.normalization import RunningStats
from ppo_jax.runs.config import AlgorithmConfig, Config, from_dict
from ppo_jax.types import Params

StateDict = Mapping[str, Any]  # {name: array}

# What each distribution's last layer and free parameter are called, there and here.
SPREAD_PARAMS = {
    "scalar": "distribution.std_param",
    "log": "distribution.log_std_param",
}
HEAD_ROWS = {
    "GaussianDistribution": ("mean",),
    "HeteroscedasticGaussianDistribution": ("mean", "spread"),
    "BetaDistribution": ("alpha", "beta"),
}

# Settings of rsl_rl that say where or how it runs, not what it computes.
IGNORED = {
    "device",
    "class_name",
    "load_run",
    "load_checkpoint",
    "resume",
    "torch_compile_mode",
    "wandb_project",
    "neptune_project",
    "logger",
    "multi_gpu",
    "grad_reduce_bucket_mb",
    "store_code_state",
}
UNSUPPORTED = ("rnd_cfg", "symmetry_cfg", "share_cnn_encoders")  # of the algorithm
DEFAULT_HIDDEN_DIMS = (256, 256, 256)  # rsl_rl's, where a plain dict gives none

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

    What is None, {} or MISSING is not given. Settings of older versions are read as
    Isaac Lab reads them: `policy` and `empirical_normalization` of before version 4
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
    _require_class(runner, "OnPolicyRunner")
    algorithm = _algorithm(runner.pop("algorithm", {}))
    actor, critic = _models(runner)
    data = {key: value for key, value in runner.items() if key not in IGNORED}
    data |= overrides | {"algorithm": algorithm, "actor": actor, "critic": critic}
    return from_dict(data)


def params_from_rsl_rl(
    config: Config, actor: StateDict, critic: StateDict
) -> tuple[Params, Any]:
    """Returns the parameters and observation statistics held in two torch state dicts.

    Args:
      config: of the run, for the distribution and the normalisation.
      actor: {"mlp.0.weight": [out, in], ...} of the actor, values as arrays.
      critic: the same of the critic.

    Returns:
      (params, obs_stats), as `ActorCritic.init` returns them.

    Raises:
      ValueError: an entry is missing or left over or has another shape than the
        configuration asks for; names it.
    """
    distribution = config.actor.distribution_cfg or DistributionConfig()
    actor_params, actor_stats = _read_model("actor", actor, config.actor, distribution)
    critic_params, critic_stats = _read_model("critic", critic, config.critic)
    params = {"actor": actor_params, "critic": critic_params}
    return params, {"actor": actor_stats, "critic": critic_stats}


def params_to_rsl_rl(
    config: Config, params: Params, obs_stats: Any
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns the state dicts of actor and critic as rsl_rl names and lays them out.

    The inverse of `params_from_rsl_rl`; values are NumPy arrays, parameters in the
    order of rsl_rl's optimizer.

    Raises:
      ValueError: the policy's actions are discrete.
    """
    distribution = config.actor.distribution_cfg or DistributionConfig()
    rows = HEAD_ROWS[distribution.class_name]
    head = params["actor"]["head"]
    if "logits" in head:
        raise ValueError(
            f"the policy of {config.task} has discrete actions, which rsl_rl has not: "
            "only policies with continuous actions can be written for it"
        )
    actor = _write_stats(obs_stats["actor"])
    if distribution.class_name == "GaussianDistribution":
        actor[SPREAD_PARAMS[distribution.std_type]] = np.asarray(head["spread"])
    actor |= _write_layers(params["actor"]["mlp"], [head[row] for row in rows])
    critic = _write_stats(obs_stats["critic"])
    critic |= _write_layers(params["critic"]["mlp"], [params["critic"]["head"]])
    return actor, critic


def _algorithm(algorithm: Mapping[str, Any]) -> dict[str, Any]:
    given = _given(algorithm)
    _require_class(given, "PPO")
    for feature in UNSUPPORTED:
        if given.pop(feature, None):
            raise UnsupportedFeature(feature)
    translated = {key: value for key, value in given.items() if key not in IGNORED}
    if algorithm.get("desired_kl", 0.0) is None:
        translated["desired_kl"] = None  # says something: the rate is fixed
    known = AlgorithmConfig.__dataclass_fields__
    for key in translated:
        if key not in known:
            raise ValueError(
                f"there is no option 'algorithm.{key}': {nearest(key, known)}"
            )
    if translated.get("schedule", "adaptive") != "adaptive":
        translated["schedule"] = "fixed"  # any other word means that in rsl_rl
    if "optimizer" in translated:
        translated["optimizer"] = str(translated["optimizer"]).lower()
    return translated


def _models(runner: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Takes actor and critic out of a runner's settings, and what they were before."""
    policy = _given(runner.pop("policy", {}))
    is_normalized = runner.pop("empirical_normalization", False)
    if is_normalized and not policy:
        raise ValueError(
            f"empirical_normalization = {is_normalized} is not read without 'policy': "
            "give actor and critic obs_normalization = true"
        )

    def model(name: str) -> dict[str, Any]:
        given = _given(runner.pop(name, {}))
        if not given and policy:
            given = _part_of_policy(policy, name, is_normalized)
        return _model(given, name)

    return model("actor"), model("critic")


def _part_of_policy(
    policy: Mapping[str, Any], name: str, is_normalized: bool
) -> dict[str, Any]:
    """Returns the model `name` of what held both models before version 4."""
    _require_class(policy, "ActorCritic")
    model: dict[str, Any] = {"obs_normalization": is_normalized}
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
    translated["class_name"] = _require_class(model, "MLPModel")
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
        kind = _require_class(distribution, "GaussianDistribution", *HEAD_ROWS)
        translated["distribution_cfg"] = distribution | {"class_name": kind}
    elif name == "actor":
        raise UnsupportedFeature("actor without a distribution")
    return translated


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
    if asked not in (default, *others):
        raise UnsupportedFeature(str(asked))
    return str(asked)


def _read_model(
    model: str,
    state_dict: StateDict,
    config: ModelConfig,
    distribution: DistributionConfig | None = None,
) -> tuple[Params, RunningStats | tuple[()]]:
    """Returns parameters and statistics of a model; the critic has no distribution."""
    state = dict(state_dict)

    def take(name: str, *shape: int | None) -> np.ndarray:
        if name not in state:
            raise ValueError(
                f"the rsl_rl state dict of the {model} has no {name!r}: was it saved "
                "by another model?"
            )
        array = np.asarray(state.pop(name), np.float32)
        _require_shape(model, name, array.shape, shape, config)
        return array

    def layer(index: int, width: int | None, out: int | None) -> dict[str, np.ndarray]:
        kernel = take(f"mlp.{2 * index}.weight", out, width).T
        return {"kernel": kernel, "bias": take(f"mlp.{2 * index}.bias", len(kernel.T))}

    first = state.get("mlp.0.weight")
    num_inputs = None if first is None else np.shape(first)[-1]
    widths = [num_inputs if dim == -1 else dim for dim in config.hidden_dims]
    hidden = enumerate(pairwise([num_inputs, *widths]))
    mlp = {f"layer_{i}": layer(i, width, out) for i, (width, out) in hidden}
    last = layer(len(widths), widths[-1], None if distribution else 1)
    head: dict[str, Any] = last if distribution is None else _rows(last, distribution)
    if distribution and distribution.class_name == "GaussianDistribution":
        num_actions = len(last["bias"])
        head["spread"] = take(SPREAD_PARAMS[distribution.std_type], num_actions)

    stats: RunningStats | tuple[()] = ()
    if config.obs_normalization:
        mean = take("obs_normalizer._mean", 1, num_inputs)[0]
        var = take("obs_normalizer._var", 1, num_inputs)[0]
        count = take("obs_normalizer.count")
        state.pop("obs_normalizer._std", None)  # the root of the variance
        stats = RunningStats(jnp.asarray(mean), jnp.asarray(var), jnp.asarray(count))
    if state:
        raise ValueError(
            f"the rsl_rl state dict of the {model} holds {sorted(state)[0]!r}, not "
            "used here: was it saved by another model?"
        )
    return _to_jax({"mlp": mlp, "head": head}), stats


def _rows(last: Params, distribution: DistributionConfig) -> dict[str, Any]:
    """Returns the last layer in parts: one for each parameter of the distribution."""
    rows, num_outputs = HEAD_ROWS[distribution.class_name], len(last["bias"])
    if num_outputs % len(rows):
        raise ValueError(
            f"the last layer of the actor has {num_outputs} outputs in the rsl_rl "
            f"state dict, but a {distribution.class_name} has {len(rows)} for each "
            "action: give the configuration that it was saved with"
        )
    kernels = np.split(last["kernel"], len(rows), axis=1)
    biases = np.split(last["bias"], len(rows))
    return {
        row: {"kernel": kernel, "bias": bias}
        for row, kernel, bias in zip(rows, kernels, biases, strict=True)
    }


def _require_shape(
    model: str,
    name: str,
    shape: tuple[int, ...],
    wanted: tuple[int | None, ...],
    config: ModelConfig,
) -> None:
    """Refuses another shape than the wanted one, in which None is any number."""
    fits = [b is None or a == b for a, b in zip(shape, wanted, strict=False)]
    if len(shape) != len(wanted) or not all(fits):
        text = ", ".join("any" if dim is None else str(dim) for dim in wanted)
        raise ValueError(
            f"{name!r} of the {model} has the shape {list(shape)} in the rsl_rl state "
            f"dict, but [{text}] with {model}.hidden_dims = "
            f"{list(config.hidden_dims)}: give the configuration that it was saved with"
        )


def _to_jax(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _to_jax(value) for key, value in tree.items()}
    return jnp.asarray(tree)


def _write_layers(mlp: Params, heads: list[Params]) -> dict[str, np.ndarray]:
    last = {
        "kernel": np.concatenate([head["kernel"] for head in heads], axis=1),
        "bias": np.concatenate([head["bias"] for head in heads]),
    }
    layers = [mlp[f"layer_{index}"] for index in range(len(mlp))] + [last]
    state = {}
    for index, layer in enumerate(layers):
        state[f"mlp.{2 * index}.weight"] = np.asarray(layer["kernel"]).T
        state[f"mlp.{2 * index}.bias"] = np.asarray(layer["bias"])
    return state


def _write_stats(stats: RunningStats | tuple[()]) -> dict[str, np.ndarray]:
    if not isinstance(stats, RunningStats):
        return {}
    return {
        "obs_normalizer._mean": np.asarray(stats.mean)[None],
        "obs_normalizer._var": np.asarray(stats.var)[None],
        "obs_normalizer._std": np.sqrt(np.asarray(stats.var))[None],
        "obs_normalizer.count": np.asarray(stats.count).astype(np.int64),
    }
