"""rsl_rl's torch state dicts as parameters and statistics, and back.

Neither torch nor rsl_rl is imported: a state dict is a mapping from names to arrays.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import jax.numpy as jnp
import numpy as np

from ppo_jax.policies.models import DistributionConfig, ModelConfig
from ppo_jax.policies.normalization import RunningStats
from ppo_jax.policies.recurrent import KINDS
from ppo_jax.runs.config import Config
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

RNN_PARAMS = {  # followed by the layer's number
    "input_kernel": "rnn.rnn.weight_ih_l",
    "hidden_kernel": "rnn.rnn.weight_hh_l",
    "input_bias": "rnn.rnn.bias_ih_l",
    "hidden_bias": "rnn.rnn.bias_hh_l",
}


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
    actor |= _write_rnn(params["actor"].get("rnn", {}))
    actor |= _write_cnns(config.actor, params["actor"].get("cnns", {}))
    critic = _write_stats(obs_stats["critic"])
    critic |= _write_layers(params["critic"]["mlp"], [params["critic"]["head"]])
    critic |= _write_rnn(params["critic"].get("rnn", {}))
    critic |= _write_cnns(config.critic, params["critic"].get("cnns", {}))
    return actor, critic


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
        if not np.isfinite(array).all():
            raise ValueError(f"{name!r} of the {model} is not finite")
        _require_shape(model, name, array.shape, shape, config)
        return array

    def layer(index: int, width: int | None, out: int | None) -> dict[str, np.ndarray]:
        kernel = take(f"mlp.{2 * index}.weight", out, width).T
        return {"kernel": kernel, "bias": take(f"mlp.{2 * index}.bias", len(kernel.T))}

    is_recurrent = config.class_name == "RNNModel"
    reads = RNN_PARAMS["input_kernel"] + "0" if is_recurrent else "mlp.0.weight"
    first: Any = state.get(reads)
    num_obs = num_inputs = np.shape(first)[-1] if np.ndim(first) else None
    parts: dict[str, Any] = {}
    if is_recurrent:
        parts["rnn"] = _read_rnn(take, config, num_obs)
        num_inputs = config.rnn_hidden_dim
    if config.class_name == "CNNModel":
        parts["cnns"] = _read_cnns(take, config, state)
        mean = state.get("obs_normalizer._mean")
        num_obs = None if mean is None else np.shape(mean)[-1]
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
        mean = take("obs_normalizer._mean", 1, num_obs)[0]
        var = take("obs_normalizer._var", 1, num_obs)[0]
        count = take("obs_normalizer.count")
        state.pop("obs_normalizer._std", None)  # the root of the variance
        stats = RunningStats(
            jnp.asarray(mean),
            jnp.asarray(var),
            jnp.asarray(count, jnp.float32),
            jnp.zeros_like(mean),
        )
    if state:
        raise ValueError(
            f"the rsl_rl state dict of the {model} holds {sorted(state)[0]!r}, not "
            "used here: was it saved by another model?"
        )
    return _to_jax(parts | {"mlp": mlp, "head": head}), stats


def _read_cnns(
    take: Callable[..., np.ndarray], config: ModelConfig, state: StateDict
) -> dict[str, Any]:
    """Returns the encoders: kernels [out, in, k, k] as torch has them."""
    found = (name.split(".")[1] for name in state if name.startswith("cnns."))
    return {
        group: {
            f"{part}_{layer}": {
                name: take(f"cnns.{group}.{index}.{theirs}", *shape)
                for name, theirs, shape in _tensors_of(part, config, layer)
            }
            for index, part, layer in _positions(config)
        }
        for group in dict.fromkeys(found)
    }


def _tensors_of(
    part: str, config: ModelConfig, layer: int
) -> list[tuple[str, str, tuple[int | None, ...]]]:
    """Returns what a part of an encoder holds: name here, there, and its shape."""
    assert config.cnn_cfg
    out, kernel, *_ = config.cnn_cfg.layers()[layer]
    if part == "norm":
        shape = (out, None, None)
        return [("scale", "weight", shape), ("bias", "bias", shape)]
    kernel_shape = (out, None, kernel, kernel)
    return [("kernel", "weight", kernel_shape), ("bias", "bias", (out,))]


def _positions(config: ModelConfig) -> list[tuple[int, str, int]]:
    """Returns (index in torch's sequence, part, layer) of all that has weights."""
    assert config.cnn_cfg
    has_norm, has_pool = config.cnn_cfg.norm != "none", config.cnn_cfg.max_pool
    length = 2 + has_norm + has_pool  # convolution, norm, activation, pooling
    positions = []
    for layer in range(len(config.cnn_cfg.output_channels)):
        positions.append((layer * length, "layer", layer))
        if has_norm:
            positions.append((layer * length + 1, "norm", layer))
    return positions


def _write_cnns(config: ModelConfig, cnns: Params) -> dict[str, np.ndarray]:
    return {
        f"cnns.{group}.{index}.{theirs}": np.asarray(encoder[f"{part}_{layer}"][name])
        for group, encoder in cnns.items()
        for index, part, layer in _positions(config)
        for name, theirs, _ in _tensors_of(part, config, layer)
    }


def _read_rnn(
    take: Callable[..., np.ndarray], config: ModelConfig, num_obs: int | None
) -> dict[str, Any]:
    """Returns the recurrent layers; torch's kernels are [gates * H, in]."""
    units = config.rnn_hidden_dim
    width = KINDS[config.rnn_type].num_gates * units
    layers = {}
    for index in range(config.rnn_num_layers):
        num_inputs = {"input_kernel": units if index else num_obs}
        layer = {}
        for name, theirs in RNN_PARAMS.items():
            if name.endswith("kernel"):
                shape = (width, num_inputs.get(name, units))
            else:
                shape = (width,)
            layer[name] = take(f"{theirs}{index}", *shape).T
        layers[f"layer_{index}"] = layer
    return layers


def _write_rnn(rnn: Params) -> dict[str, np.ndarray]:
    return {
        f"{theirs}{index}": np.asarray(rnn[f"layer_{index}"][name]).T
        for index in range(len(rnn))
        for name, theirs in RNN_PARAMS.items()
    }


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
        field = "rnn_hidden_dim" if name.startswith("rnn.") else "hidden_dims"
        value = getattr(config, field)
        value = list(value) if isinstance(value, tuple) else value
        raise ValueError(
            f"{name!r} of the {model} has the shape {list(shape)} in the rsl_rl state "
            f"dict, but [{text}] with {model}.{field} = {value}: "
            "give the configuration that it was saved with"
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
        "obs_normalizer._mean": np.asarray(stats.mean + stats.mean_rest)[None],
        "obs_normalizer._var": np.asarray(stats.var)[None],
        "obs_normalizer._std": np.sqrt(np.asarray(stats.var))[None],
        "obs_normalizer.count": np.asarray(stats.count).astype(np.int64),
    }
