"""Trees of small arrays as one vector, so that what is done to each is done once.

A gradient step of small networks is a hundred small operations, most of them the
optimizer's on a bias or a kernel. To start one then costs more than what it computes.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.flatten_util import ravel_pytree

from ppo_jax.types import Params, TrainState

MOST = 8192  # numbers of a tree: of more, the arrays are better taken side by side

Unpack = Callable[[Any], Any]


def pack(tree: Any) -> tuple[Any, Unpack]:
    """Returns all numbers of a tree as one vector, and what makes the tree of such.

    A large tree stays as it is, and so does one whose arrays have several types: no
    digit is to be lost.
    """
    leaves = jax.tree.leaves(tree)
    if len({x.dtype for x in leaves}) != 1 or sum(x.size for x in leaves) > MOST:
        return tree, lambda same: same
    return ravel_pytree(tree)


def pack_learned(state: TrainState) -> tuple[TrainState, Unpack, Unpack]:
    """Packs the parameters of each small model, and what the optimizer keeps of them.

    Returns:
      The state, with {model: [P]} wherever a tree had the structure of the parameters;
      what unpacks a state; and what unpacks parameters.
    """
    kinds = {name: pack(tree)[1] for name, tree in state.params.items()}

    def unpack(params: Params) -> Params:
        return {name: kinds[name](x) for name, x in params.items()}

    def over(take: Callable[[Params], Params], state: TrainState) -> TrainState:
        structure = jax.tree.structure(state.params)
        is_like = lambda x: jax.tree.structure(x) == structure
        opt_state = jax.tree.map(
            lambda x: take(x) if is_like(x) else x, state.opt_state, is_leaf=is_like
        )
        return state._replace(params=take(state.params), opt_state=opt_state)

    packed = over(lambda params: {k: pack(x)[0] for k, x in params.items()}, state)
    return packed, lambda state: over(unpack, state), unpack
