"""A simulator of one's own, named on the command line by the function that makes it.

    torch:my_robot.sim:make              a TorchEnv
    gymnasium-torch:my_robot.sim:make    a Gymnasium vector environment of tensors

The function is called as `make(num_envs=N, device="cpu", **arguments)`, where
`env.mass=2.0` on the command line is the argument `mass=2.0`.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

from ppo_jax.envs.bridge import BridgedEnv, bridge
from ppo_jax.envs.dlpack import prepare_jax, require_device
from ppo_jax.envs.gymnasium_torch import GymnasiumTorchEnv
from ppo_jax.options import load

TORCH, GYMNASIUM = "torch", "gymnasium-torch"


def make_own_env(
    task: str,
    num_envs: int,
    device: str = "cpu",
    overrides: Sequence[str] = (),
    driver: str = "in_jit",
    compute_final_obs: bool | None = None,
    clip_actions: float | None = None,
) -> BridgedEnv:
    """Returns `num_envs` environments of a simulator that a function makes.

    Args:
      task: "torch:module:function" or "gymnasium-torch:module:function".
      num_envs: N, how many.
      device: of the simulator, "cpu" or "cuda:0"; JAX has to be on the same.
      overrides: arguments of the function, "env.name=value".
      driver: "in_jit" or "host", see `ppo_jax.envs.bridge`.
      compute_final_obs: of Gymnasium's: False takes the value of the observation before
        a time-out; None and True that of the state in which it came.
      clip_actions: they see continuous actions clipped to +- this; None: as is.

    Raises:
      ValueError: there is no such function, or what it makes cannot be used; says why.
    """
    kind, _, path = task.partition(":")
    require_device(device)
    prepare_jax(device)
    if os.getcwd() not in sys.path:  # where the user's module lies
        sys.path.insert(0, os.getcwd())
    make = load(path, "task")
    try:
        env = make(num_envs=num_envs, device=device, **_arguments(overrides))
    except TypeError as error:
        raise ValueError(f"{task} could not be made: {error}") from error
    if env.num_envs != num_envs:
        raise ValueError(f"{task} made {env.num_envs} environments, not {num_envs}")
    if kind == GYMNASIUM:
        has_final_obs = compute_final_obs is not False
        env = GymnasiumTorchEnv(env, task, has_final_obs, clip_actions)
    elif clip_actions is not None:
        raise ValueError(
            f"clip_actions = {clip_actions}: {task} is a TorchEnv, which clips for "
            "itself: leave it away"
        )
    return bridge(env, driver)


def _arguments(overrides: Sequence[str]) -> dict[str, Any]:
    from ppo_jax.envs.nested import literal

    arguments = {}
    for token in overrides:
        path, equals, text = token.partition("=")
        section, _, name = path.partition(".")
        if section != "env" or not equals or not name.isidentifier():
            raise ValueError(f"{token!r} is no argument: give env.name=value")
        arguments[name] = literal(text)
    return arguments
