"""Parameters of the actor that the critic reads too, moved twice as rsl_rl moves them.

By default they are the actor's in every way: their gradient, that of the whole loss, is
clipped with the actor's, and each minibatch moves them once. In rsl_rl they are in the
list of both models: clipped with either, and moved by either.
"""

from typing import Any, NamedTuple

from ppo_jax.learning.config import PPOConfig
from ppo_jax.learning.optimizers import OPTIMIZERS, clip_gradient, descend
from ppo_jax.types import Array, Params, Scalar

Shared = tuple[str, ...]  # names of parts of params["actor"], `ActorCritic.shared`


class TwiceState(NamedTuple):
    """The optimizer's state where some parameters take two steps for one."""

    own: Any  # of all other parameters
    shared: Any


def moves_twice(shared: Shared, config: PPOConfig) -> bool:
    """Says whether there are shared parameters, and they are to move twice."""
    return bool(shared) and config.shared_encoder_updates == "twice"


def split(shared: Shared, params: Params) -> tuple[Params, Params]:
    """Returns the parameters of one model alone, and those of both."""
    actor = params["actor"]
    own = {name: x for name, x in actor.items() if name not in shared}
    return {**params, "actor": own}, {name: actor[name] for name in shared}


def join(own: Params, both: Params) -> Params:
    """Returns what `split` took apart."""
    return {**own, "actor": {**own["actor"], **both}}


def init_optimizer(shared: Shared, config: PPOConfig, params: Params) -> Any:
    """Returns the optimizer's state before the first step."""
    optimizer = OPTIMIZERS[config.optimizer]()
    if not moves_twice(shared, config):
        return optimizer.init(params)
    return TwiceState(*map(optimizer.init, split(shared, params)))


def clip_twice(
    shared: Shared, gradients: Params, max_norm: Scalar
) -> tuple[Params, dict[str, Array]]:
    """Returns the gradients clipped with the actor's and then with the critic's norm.

    Source: rsl_rl 5.5.1, PPO.update with share_cnn_encoders.
    """
    actor, actor_norm = clip_gradient(gradients["actor"], max_norm)
    own, both = split(shared, {**gradients, "actor": actor})
    read = {"own": own["critic"], "both": both}
    read, critic_norm = clip_gradient(read, max_norm)
    clipped = join({**own, "critic": read["own"]}, read["both"])
    return clipped, {"grad_norm_actor": actor_norm, "grad_norm_critic": critic_norm}


def descend_twice(
    shared: Shared,
    config: PPOConfig,
    state: TwiceState,
    params: Params,
    gradients: Params,
    learning_rate: Array,
) -> tuple[Params, TwiceState]:
    """Returns parameters and state after one step, two of what is shared.

    Both are steps along the same gradient, one after the other.
    """
    optimizer = OPTIMIZERS[config.optimizer]()
    own, both = split(shared, params)
    own_gradient, gradient = split(shared, gradients)
    own, own_state = descend(optimizer, state.own, own, own_gradient, learning_rate)
    both_state = state.shared
    for _ in range(2):
        both, both_state = descend(optimizer, both_state, both, gradient, learning_rate)
    return join(own, both), TwiceState(own_state, both_state)
