"""rsl_rl's torch state dicts as parameters and statistics, and back.

Neither torch nor rsl_rl is imported: a state dict is a mapping from names to arrays.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ppo_jax.policies.actor_critic import shared_parts
from ppo_jax.policies.models import DistributionConfig, ModelConfig, is_own_class
from ppo_jax.policies.normalization import RunningStats
from ppo_jax.rsl_rl.encoders import (
    RNN_PARAMS,
    read_cnns,
    read_rnn,
    read_vector_encoders,
    write_cnns,
    write_rnn,
    write_vector_encoders,
)
from ppo_jax.rsl_rl.entries import Entries
from ppo_jax.runs.config import Config
from ppo_jax.types import Params

StateDict = Mapping[str, Any]  # {name: array}

# What each distribution's last layer and free parameter are called, there and here.
SPREAD_PARAMS = {
    "scalar": "distribution.std_param",
    "log": "distribution.log_std_param",
    "sigmoid": "distribution.std_param",  # of Isaac Lab's class
}
HEAD_ROWS = {
    "GaussianDistribution": ("mean",),
    "HeteroscedasticGaussianDistribution": ("mean", "spread"),
    "BetaDistribution": ("alpha", "beta"),
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
    require_in_rsl_rl(config)
    distribution = config.actor.distribution_cfg or DistributionConfig()
    actor_params, actor_stats = _read_model("actor", actor, config.actor, distribution)
    shared = shared_of(config)  # encoders of vectors are the actor's there as well
    critic_params, critic_stats = _read_model(
        "critic", critic, config.critic, has_encoders="encoders" not in shared
    )
    if "cnns" in shared:
        critic_params = _take_shared("cnns", actor_params, critic_params)
    params = {"actor": actor_params, "critic": critic_params}
    return params, {"actor": actor_stats, "critic": critic_stats}


def policy_from_rsl_rl(
    config: Config, name: str, state_dict: StateDict
) -> tuple[Params, Any]:
    """Returns the parameters and statistics of a policy alone.

    Args:
      config: of the run.
      name: which of its models it is: "actor", "student" or "teacher".
      state_dict: {"mlp.0.weight": [out, in], ...}, values as arrays.

    Raises:
      ValueError: as `params_from_rsl_rl`.
    """
    require_in_rsl_rl(config)
    model = getattr(config, name)
    distribution = model.distribution_cfg or DistributionConfig()
    params, stats = _read_model(name, state_dict, model, distribution)
    return {"actor": params}, {"actor": stats, "critic": ()}


def policy_to_rsl_rl(
    config: Config, name: str, params: Params, obs_stats: Any
) -> dict[str, np.ndarray]:
    """Returns the state dict of a policy; the inverse of `policy_from_rsl_rl`."""
    require_in_rsl_rl(config)
    distribution = getattr(config, name).distribution_cfg or DistributionConfig()
    head, params = params["actor"]["head"], params["actor"]
    state = _write_stats(obs_stats["actor"])
    if distribution.class_name == "GaussianDistribution":
        state[SPREAD_PARAMS[distribution.std_type]] = np.asarray(head["spread"])
    rows = HEAD_ROWS[distribution.class_name]
    state |= _write_layers(params["mlp"], [head[row] for row in rows])
    state |= write_rnn(params.get("rnn", {}))
    state |= write_cnns(config, name, params.get("cnns", {}))
    return state | write_vector_encoders(config, name, params.get("encoders", {}))


def params_to_rsl_rl(
    config: Config, params: Params, obs_stats: Any
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns the state dicts of actor and critic as rsl_rl names and lays them out.

    The inverse of `params_from_rsl_rl`; values are NumPy arrays, parameters in the
    order of rsl_rl's optimizer.

    Raises:
      ValueError: the policy's actions are discrete, or its network is none of rsl_rl's.
    """
    require_in_rsl_rl(config)
    if "logits" in params["actor"]["head"]:
        raise ValueError(
            f"the policy of {config.task} has discrete actions, which rsl_rl has not: "
            "only policies with continuous actions can be written for it"
        )
    actor = policy_to_rsl_rl(config, "actor", params, obs_stats)
    both = params["critic"] | {
        part: params["actor"][part] for part in shared_of(config)
    }
    critic = _write_stats(obs_stats["critic"])
    critic |= _write_layers(params["critic"]["mlp"], [params["critic"]["head"]])
    critic |= write_rnn(params["critic"].get("rnn", {}))
    critic |= write_cnns(config, "critic", (params["critic"] | both).get("cnns", {}))
    own = params["critic"].get("encoders", {})
    critic |= write_vector_encoders(config, "critic", own)
    return actor, critic


def require_in_rsl_rl(config: Config) -> None:
    """Raises ValueError, with its name, for a network that rsl_rl has not."""
    for name in ("actor", "critic", "student", "teacher"):
        model = getattr(config, name)
        if model is None:
            continue
        distribution = model.distribution_cfg or DistributionConfig()
        missing = {
            "class_name": model.class_name * is_own_class(model.class_name),
            "layer_norm": model.layer_norm,
            "distribution_cfg.class_name": distribution.class_name
            * (distribution.class_name not in HEAD_ROWS),
        }
        for field, value in missing.items():
            if value:
                raise ValueError(
                    f"{name}.{field} = {value!r} is nothing that rsl_rl has: its files "
                    "cannot hold it"
                )


def shared_of(config: Config) -> tuple[str, ...]:
    """Returns the parts that rsl_rl's state dicts hold twice, and we once."""
    if not config.algorithm.share_cnn_encoders:
        return ()
    return shared_parts(config.actor, config.critic)


def _take_shared(part: str, actor: Params, critic: Params) -> Params:
    """Returns the critic's parameters without a part that is the actor's as well.

    Raises:
      ValueError: the two are not the same.
    """
    theirs, own = ({part: model.get(part)} for model in (actor, critic))
    same = jax.tree.structure(theirs) == jax.tree.structure(own)
    if not same or not jax.tree.all(jax.tree.map(np.array_equal, theirs, own)):
        raise ValueError(
            f"share_cnn_encoders is set, but {part!r} of the actor and of the critic "
            "differ: was it saved by models that share nothing?"
        )
    return {name: x for name, x in critic.items() if name != part}


def _read_model(
    model: str,
    state_dict: StateDict,
    config: ModelConfig,
    distribution: DistributionConfig | None = None,
    has_encoders: bool = True,
) -> tuple[Params, RunningStats | tuple[()]]:
    """Returns parameters and statistics of a model; the critic has no distribution."""
    entries = Entries(model, config, state_dict)
    num_obs = num_inputs = entries.width("mlp.0.weight")
    parts: dict[str, Any] = {}
    if config.class_name == "RNNModel":
        num_obs = entries.width(f"{RNN_PARAMS['input_kernel']}0")
        num_inputs = config.rnn_hidden_dim
        parts["rnn"] = read_rnn(entries, config, num_obs)
    if config.class_name == "CNNModel":
        num_obs = entries.width("obs_normalizer._mean")
        parts["cnns"] = read_cnns(entries, config)
    if config.encoder_cfg:
        num_obs = entries.width("obs_normalizer._mean")
    if config.encoder_cfg and has_encoders:
        parts["encoders"] = read_vector_encoders(entries, config)
    widths = [num_inputs if dim == -1 else dim for dim in config.hidden_dims]
    hidden = enumerate(pairwise([num_inputs, *widths]))
    parts["mlp"] = {
        f"layer_{i}": entries.layer(i, width, out) for i, (width, out) in hidden
    }
    last = entries.layer(len(widths), widths[-1], None if distribution else 1)
    parts["head"] = last if distribution is None else _rows(last, distribution)
    if distribution and distribution.class_name == "GaussianDistribution":
        name = SPREAD_PARAMS[distribution.std_type]
        parts["head"]["spread"] = entries.take(name, len(last["bias"]))
    stats = _read_stats(entries, num_obs) if config.obs_normalization else ()
    entries.require_none_left()
    return _to_jax(parts), stats


def _read_stats(entries: Entries, num_obs: int | None) -> RunningStats:
    mean = entries.take("obs_normalizer._mean", 1, num_obs)[0]
    var = entries.take("obs_normalizer._var", 1, num_obs)[0]
    count = entries.take("obs_normalizer.count")
    entries.left.pop("obs_normalizer._std", None)  # the root of the variance
    rest = np.zeros_like(mean)
    return RunningStats(*map(jnp.asarray, (mean, var, count, rest)))


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
