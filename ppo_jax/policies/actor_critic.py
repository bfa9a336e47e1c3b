"""Flax modules for policy and value, and `actor_critic`, which makes them one."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppo_jax.options import (
    check_options,
    nearest,
    one_of,
    option,
    positive,
    rising_pair,
)
from ppo_jax.policies import distributions
from ppo_jax.policies.normalization import init_stats, normalize, update_stats
from ppo_jax.types import (
    ActionSpace,
    ActorCritic,
    Array,
    Discrete,
    Distribution,
    Key,
    Obs,
    Params,
)


@jax.custom_jvp
def elu(x: Array) -> Array:
    """Returns x where it is positive, else exp(x) - 1.

    As `jax.nn.elu` to 1e-7, and faster on a CPU: exp costs half of expm1, and the slope
    comes from the output, 1 or elu(x) + 1, so that the backward pass neither keeps x
    nor takes the exponential again.
    """
    return jnp.where(x > 0, x, jnp.exp(jnp.minimum(x, 0.0)) - 1.0)


@elu.defjvp
def _elu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    y = elu(*primals)
    return y, tangents[0] * jnp.where(y > 0, 1.0, y + 1.0)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "elu": elu,
    "selu": jax.nn.selu,
    "relu": jax.nn.relu,
    "crelu": jax.nn.celu,  # the name is rsl_rl's; the function is CELU
    "lrelu": jax.nn.leaky_relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "swish": jax.nn.swish,
    "mish": jax.nn.mish,
    "identity": lambda x: x,
}

MIN_STD = 1e-6  # a standard deviation of 0 has no density


def _hidden_dims(value: Sequence[int]) -> str | None:
    allowed = value and all(dim > 0 or dim == -1 for dim in value)
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

    class_name: str = option("MLPModel", "kind of network", one_of("MLPModel"))
    hidden_dims: tuple[int, ...] = option(
        (64, 64), "width of each hidden layer", _hidden_dims
    )
    activation: str = option("elu", "activation of the hidden layers", _activation)
    obs_normalization: bool = option(False, "normalise observations by running stats")
    distribution_cfg: DistributionConfig | None = option(
        None, "distribution of the actions; the actor's only"
    )

    def __post_init__(self) -> None:
        """Checks every field."""
        check_options(self)


class Linear(nn.Module):
    """x W + b, initialised as torch does: U(-1, 1) / sqrt(fan_in), both.

    With `constant` the layer starts as that constant: W = 0, b = constant. The
    product is taken in the kernel's type and accumulated in float32.
    """

    features: int
    constant: float | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [..., in] to [..., features]."""
        limit = 1.0 / math.sqrt(x.shape[-1])

        def uniform(key: Key, shape: tuple[int, ...]) -> Array:
            return jax.random.uniform(key, shape, minval=-limit, maxval=limit)

        kernel_init = bias_init = uniform
        if self.constant is not None:
            kernel_init = nn.initializers.zeros
            bias_init = nn.initializers.constant(self.constant)
        kernel = self.param("kernel", kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", bias_init, (self.features,))
        product = jax.lax.dot_general(
            x.astype(kernel.dtype),
            kernel,
            (((x.ndim - 1,), (0,)), ((), ())),
            preferred_element_type=jnp.float32,
        )
        return product + bias.reshape((1,) * (x.ndim - 1) + bias.shape)


class MLP(nn.Module):
    """The hidden layers of a model, each followed by the activation."""

    hidden_dims: tuple[int, ...]
    activation: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [..., D] to [..., hidden_dims[-1]]."""
        activation, input_dim = ACTIVATIONS[self.activation.lower()], x.shape[-1]
        for index, dim in enumerate(self.hidden_dims):
            width = input_dim if dim == -1 else dim
            x = activation(Linear(width, name=f"layer_{index}")(x))
        return x


class GaussianHead(nn.Module):
    """A mean that depends on the observation and a std that does not."""

    action_dim: int
    config: DistributionConfig

    @nn.compact
    def __call__(self, x: Array) -> distributions.Gaussian:
        """Maps features to a Gaussian over [..., A]."""
        mean = Linear(self.action_dim, name="mean")(x)
        init = nn.initializers.constant(_initial_spread(self.config))
        raw = self.param("spread", init, (self.action_dim,))
        std = _std(
            raw if self.config.learn_std else jax.lax.stop_gradient(raw), self.config
        )
        return distributions.Gaussian(mean, _for_each_sample(std, mean.shape))


class HeteroscedasticGaussianHead(nn.Module):
    """A mean and a std that both depend on the observation."""

    action_dim: int
    config: DistributionConfig

    @nn.compact
    def __call__(self, x: Array) -> distributions.Gaussian:
        """Maps features to a Gaussian over [..., A]."""
        mean = Linear(self.action_dim, name="mean")(x)
        start = _initial_spread(self.config)
        raw = Linear(self.action_dim, constant=start, name="spread")(x)
        return distributions.Gaussian(mean, _std(raw, self.config))


class BetaHead(nn.Module):
    """alpha and beta = softplus(.) + 1: one mode, inside the range."""

    action_dim: int
    config: DistributionConfig

    @nn.compact
    def __call__(self, x: Array) -> distributions.Beta:
        """Maps features to a Beta over [..., A]."""
        alpha = jax.nn.softplus(Linear(self.action_dim, name="alpha")(x)) + 1.0
        beta = Linear(self.action_dim, constant=0.0, name="beta")(x)
        beta = jax.nn.softplus(beta) + 1.0
        low, high = self.config.action_range
        return distributions.Beta(
            alpha, beta, jnp.full_like(alpha, low), jnp.full_like(alpha, high)
        )


class CategoricalHead(nn.Module):
    """Logits of a discrete action."""

    num_actions: int

    @nn.compact
    def __call__(self, x: Array) -> distributions.Categorical:
        """Maps features to a Categorical over K actions."""
        return distributions.Categorical(Linear(self.num_actions, name="logits")(x))


HEADS = {
    "GaussianDistribution": GaussianHead,
    "HeteroscedasticGaussianDistribution": HeteroscedasticGaussianHead,
    "BetaDistribution": BetaHead,
}


class Actor(nn.Module):
    """Hidden layers and a distribution head."""

    config: ModelConfig
    action_space: ActionSpace

    @nn.compact
    def __call__(self, x: Array) -> Any:
        """Maps [..., D] to a distribution over actions."""
        features = MLP(self.config.hidden_dims, self.config.activation, name="mlp")(x)
        if isinstance(self.action_space, Discrete):
            return CategoricalHead(self.action_space.num_actions, name="head")(features)
        config = self.config.distribution_cfg or DistributionConfig()
        head = HEADS[config.class_name]
        return head(self.action_space.dim, config, name="head")(features)


class Critic(nn.Module):
    """Hidden layers and one output."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [..., D] to the value [...]."""
        features = MLP(self.config.hidden_dims, self.config.activation, name="mlp")(x)
        return Linear(1, name="head")(features)[..., 0]


def actor_critic(
    action_space: ActionSpace,
    actor: ModelConfig = ModelConfig(),
    critic: ModelConfig = ModelConfig(),
    obs_groups: Mapping[str, Sequence[str]] | None = None,
) -> ActorCritic:
    """Returns a policy and a value function of separate networks.

    Args:
      action_space: of the environment.
      actor: network of the policy; without `distribution_cfg`, a Gaussian with std 1.
      critic: network of the value.
      obs_groups: {"actor": groups, "critic": groups}, see `resolve_obs_groups`.

    Returns:
      Pure functions. Their params are {"actor": ..., "critic": ...}, their inputs
      {"actor": [..., Da], "critic": [..., Dc]}: the groups in the order given,
      concatenated and, where the model asks for it, normalised.

    Raises:
      ValueError: a distribution is configured for discrete actions.
    """
    no_choice = (None, DistributionConfig())
    if isinstance(action_space, Discrete) and actor.distribution_cfg not in no_choice:
        raise ValueError(
            "actor.distribution_cfg is set, but the actions are discrete and always "
            "drawn from a categorical distribution: leave it away"
        )
    models = {"actor": actor, "critic": critic}
    return from_modules(
        Actor(actor, action_space),
        Critic(critic),
        obs_groups,
        [name for name, model in models.items() if model.obs_normalization],
    )


def from_modules(
    actor: nn.Module,
    critic: nn.Module,
    obs_groups: Mapping[str, Sequence[str]] | None = None,
    obs_normalization: Collection[str] = (),
) -> ActorCritic:
    """Returns a policy and a value function of two flax modules, for instance your own.

    Args:
      actor: maps [..., Da] to a distribution (`types.Distribution`) over actions.
      critic: maps [..., Dc] to the value [...].
      obs_groups: {"actor": groups, "critic": groups}, see `resolve_obs_groups`.
      obs_normalization: which of "actor" and "critic" see observations normalised by
        running statistics.

    Returns:
      Pure functions, with params and inputs as `actor_critic` has them.
    """
    modules: dict[str, Any] = {"actor": actor, "critic": critic}
    normalized = {name: name in obs_normalization for name in modules}

    def select(obs: Obs) -> dict[str, Array]:
        groups = resolve_obs_groups(obs_groups or {}, obs)
        return {name: _concatenate(obs, groups[name]) for name in modules}

    def init(key: Key, obs: Obs) -> tuple[Params, Any]:
        inputs = select(obs)
        keys = dict(zip(modules, jax.random.split(key), strict=True))
        params = {
            name: module.init(keys[name], inputs[name])["params"]
            for name, module in modules.items()
        }
        stats = {
            name: init_stats(inputs[name].shape[-1]) if normalized[name] else ()
            for name in modules
        }
        return params, stats

    def prepare(obs_stats: Any, obs: Obs) -> dict[str, Array]:
        return {
            name: normalize(obs_stats[name], x) if normalized[name] else x
            for name, x in select(obs).items()
        }

    def policy(params: Params, inputs: Any) -> Distribution:
        return modules["actor"].apply({"params": params["actor"]}, inputs["actor"])

    def value(params: Params, inputs: Any) -> Array:
        return modules["critic"].apply({"params": params["critic"]}, inputs["critic"])

    def update(obs_stats: Any, obs: Obs) -> Any:
        return {
            name: update_stats(obs_stats[name], x) if normalized[name] else ()
            for name, x in select(obs).items()
        }

    return ActorCritic(init, prepare, policy, value, update)


def in_bfloat16(network: ActorCritic) -> ActorCritic:
    """Returns the same functions with the matrix products taken in bfloat16.

    Parameters, sums, activations and everything after the networks stay float32.
    """

    def cast(params: Params) -> Params:
        return jax.tree.map(
            lambda p: p.astype(jnp.bfloat16) if p.ndim > 1 else p, params
        )

    return network._replace(
        policy=lambda params, inputs: network.policy(cast(params), inputs),
        value=lambda params, inputs: network.value(cast(params), inputs),
    )


def resolve_obs_groups(
    obs_groups: Mapping[str, Sequence[str]],
    available: Sequence[str] | Obs,
    models: Sequence[str] = ("actor", "critic"),
) -> dict[str, tuple[str, ...]]:
    """Returns the observation groups that each model reads, as rsl_rl chooses them.

    A model that is not configured reads the group of its own name where the
    environment has it, else "policy".

    Raises:
      ValueError: a configured list is empty or names a group that is not there, or
        there is neither a group of the model's name nor "policy".
    """
    unknown = set(obs_groups) - set(models)
    if unknown:
        name = sorted(unknown)[0]
        raise ValueError(f"obs_groups has no model {name!r}: {nearest(name, models)}")
    chosen = {}
    for model in models:
        default = model if model in available else "policy"
        groups = tuple(obs_groups.get(model, (default,)))
        missing = [group for group in groups if group not in available]
        if not groups or missing:
            what = f"the group {missing[0]!r}" if missing else "no group at all"
            raise ValueError(
                f"obs_groups[{model!r}] names {what}, but the environment observes "
                f"{', '.join(sorted(available))}: name one or more of these"
            )
        chosen[model] = groups
    return chosen


def _concatenate(obs: Obs, groups: Sequence[str]) -> Array:
    if len(groups) == 1:
        return obs[groups[0]]
    return jnp.concatenate([obs[group] for group in groups], axis=-1)


def _initial_spread(config: DistributionConfig) -> float:
    return math.log(config.init_std) if config.std_type == "log" else config.init_std


def _std(raw: Array, config: DistributionConfig) -> Array:
    low, high = max(config.std_range[0], MIN_STD), config.std_range[1]
    if config.std_type == "log":
        return jnp.exp(_clip(raw, math.log(low), math.log(high)))
    return _clip(raw, low, high)


def _for_each_sample(std: Array, shape: tuple[int, ...]) -> Array:
    """Returns a std [A] as [..., A].

    The barrier stands, in the backward pass, between the gradient of each sample and
    their sum. Without it XLA makes one loop of both, which for A = 1 on a CPU takes
    one number at a time: a third of the time of an update of small networks.
    """
    return jax.lax.optimization_barrier(jnp.broadcast_to(std, shape))


def _clip(x: Array, low: float, high: float) -> Array:
    """Clips with torch's gradient: 1 inside and on the limits, 0 outside."""
    inside = (x >= low) & (x <= high)
    return jnp.where(inside, x, jax.lax.stop_gradient(jnp.clip(x, low, high)))
