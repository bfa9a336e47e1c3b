"""What rsl_rl wrote, as ours: its configurations and its torch state dicts, and back.

Neither torch nor rsl_rl is imported: a state dict is a mapping from names to arrays.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from ppo_jax.config import AlgorithmConfig, Config, from_dict
from ppo_jax.networks import DistributionConfig, ModelConfig
from ppo_jax.normalization import RunningStats
from ppo_jax.options import nearest
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
}


OLD_SETTINGS = ("policy", "empirical_normalization")
DEFAULT_HIDDEN_DIMS = (256, 256, 256)  # rsl_rl's, where a plain dict gives none


class UnsupportedFeature(ValueError):
    """An rsl_rl configuration asks for what is not here; `feature` names it."""

    def __init__(self, feature: str) -> None:
        """Keeps the feature's name."""
        self.feature = feature
        super().__init__(f"rsl_rl's {feature} is not supported yet")


def config_from_rsl_rl(runner: Mapping[str, Any], **overrides: Any) -> Config:
    """Returns the configuration that means the same as an rsl_rl runner's.

    Args:
      runner: the runner's configuration as nested dicts, `to_dict()` of Isaac Lab's.
      **overrides: top-level fields that rsl_rl does not have, such as task, num_envs.

    Raises:
      UnsupportedFeature: it asks for a feature that is not here; names it.
      ValueError: a key is unknown, or a value is not allowed.
    """
    if runner.get("class_name", "OnPolicyRunner") != "OnPolicyRunner":
        raise UnsupportedFeature(str(runner["class_name"]))
    for old in OLD_SETTINGS:
        if runner.get(old):
            raise UnsupportedFeature(f"setting {old!r} of before version 4")
    data: dict[str, Any] = dict(overrides)
    for key, value in runner.items():
        if key in ("algorithm", "actor", "critic", *OLD_SETTINGS) or key in IGNORED:
            continue
        if key in overrides or value in ({}, None):
            continue
        data[key] = value
    data["algorithm"] = _algorithm(runner.get("algorithm", {}))
    data["actor"] = _model(runner.get("actor", {}), "actor")
    data["critic"] = _model(runner.get("critic", {}), "critic")
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
      ValueError: an entry is missing or left over; names it.
    """
    distribution = config.actor.distribution_cfg or DistributionConfig()
    actor_params, actor_stats = _read_model(
        dict(actor), config.actor, HEAD_ROWS[distribution.class_name], distribution
    )
    critic_params, critic_stats = _read_model(dict(critic), config.critic, ("value",))
    params = {"actor": actor_params, "critic": critic_params}
    params["critic"]["head"] = params["critic"]["head"]["value"]
    return params, {"actor": actor_stats, "critic": critic_stats}


def params_to_rsl_rl(
    config: Config, params: Params, obs_stats: Any
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns the state dicts of actor and critic as rsl_rl names and lays them out.

    The inverse of `params_from_rsl_rl`; values are NumPy arrays.
    """
    distribution = config.actor.distribution_cfg or DistributionConfig()
    rows = HEAD_ROWS[distribution.class_name]
    head = params["actor"]["head"]
    actor = _write_stats(obs_stats["actor"])
    if distribution.class_name == "GaussianDistribution":
        actor[SPREAD_PARAMS[distribution.std_type]] = np.asarray(head["spread"])
    actor |= _write_layers(params["actor"]["mlp"], [head[row] for row in rows])
    critic = _write_stats(obs_stats["critic"])
    critic |= _write_layers(params["critic"]["mlp"], [params["critic"]["head"]])
    return actor, critic


def _algorithm(algorithm: Mapping[str, Any]) -> dict[str, Any]:
    if algorithm.get("class_name", "PPO") != "PPO":
        raise UnsupportedFeature(str(algorithm["class_name"]))
    for feature in ("rnd_cfg", "symmetry_cfg", "share_cnn_encoders"):
        if algorithm.get(feature):
            raise UnsupportedFeature(feature)
    known = AlgorithmConfig.__dataclass_fields__
    translated = {}
    for key, value in algorithm.items():
        if key in IGNORED or key in ("rnd_cfg", "symmetry_cfg", "share_cnn_encoders"):
            continue
        if key not in known:
            raise ValueError(
                f"there is no option 'algorithm.{key}': {nearest(key, known)}"
            )
        translated[key] = value
    if translated.get("schedule", "adaptive") != "adaptive":
        translated["schedule"] = "fixed"  # any other word means that in rsl_rl
    if "optimizer" in translated:
        translated["optimizer"] = str(translated["optimizer"]).lower()
    return translated


def _model(model: Mapping[str, Any], name: str) -> dict[str, Any]:
    class_name = model.get("class_name", "MLPModel")
    if class_name != "MLPModel":
        raise UnsupportedFeature(str(class_name))
    translated = {key: value for key, value in model.items() if key != "cnn_cfg"}
    translated.setdefault("hidden_dims", DEFAULT_HIDDEN_DIMS)
    distribution = translated.get("distribution_cfg")
    if distribution is not None:
        kind = distribution.get("class_name", "GaussianDistribution")
        if kind not in HEAD_ROWS:
            raise UnsupportedFeature(str(kind))
    elif name == "actor":
        raise UnsupportedFeature("actor without a distribution")
    return translated


def _read_model(
    state: dict[str, Any],
    config: ModelConfig,
    rows: tuple[str, ...],
    distribution: DistributionConfig | None = None,
) -> tuple[Params, RunningStats | tuple[()]]:
    """Takes a model's layers out of a state dict, which must then be empty."""

    def take(name: str) -> np.ndarray:
        if name not in state:
            raise ValueError(
                f"the rsl_rl state dict has no {name!r}: was it saved by another model?"
            )
        return np.asarray(state.pop(name), np.float32)

    def layer(index: int) -> dict[str, np.ndarray]:
        return {
            "kernel": take(f"mlp.{2 * index}.weight").T,
            "bias": take(f"mlp.{2 * index}.bias"),
        }

    num_hidden = len(config.hidden_dims)
    mlp = {f"layer_{index}": layer(index) for index in range(num_hidden)}
    last = layer(num_hidden)
    kernels = np.split(last["kernel"], len(rows), axis=1)
    biases = np.split(last["bias"], len(rows))
    head: dict[str, Any] = {
        row: {"kernel": kernel, "bias": bias}
        for row, kernel, bias in zip(rows, kernels, biases, strict=True)
    }
    if distribution and distribution.class_name == "GaussianDistribution":
        head["spread"] = take(SPREAD_PARAMS[distribution.std_type])

    stats: RunningStats | tuple[()] = ()
    if config.obs_normalization:
        mean, var = take("obs_normalizer._mean")[0], take("obs_normalizer._var")[0]
        count = take("obs_normalizer.count")
        state.pop("obs_normalizer._std", None)  # the root of the variance
        stats = RunningStats(jnp.asarray(mean), jnp.asarray(var), jnp.asarray(count))
    if state:
        raise ValueError(
            f"the rsl_rl state dict holds {sorted(state)[0]!r}, not used here"
        )
    as_jax = {"mlp": mlp, "head": head}
    return _to_jax(as_jax), stats


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
