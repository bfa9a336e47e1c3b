"""Training configurations: one small file a task."""

from dataclasses import replace
from importlib import import_module

from ppo_jax.runs.config import Config

if __name__ == "configs":  # from the top of a checkout: a second copy of everything
    raise ImportError("the folder configs is the package ppo_jax.configs: import that")

# task: module that holds its CONFIG
CONFIGS = {
    "Cartpole": "ppo_jax.configs.cartpole",
    "Franka-Reach": "ppo_jax.configs.franka_reach",
    "Franka-Reach-Pose": "ppo_jax.configs.franka_reach_pose",
    "Franka-Lift": "ppo_jax.configs.franka_lift",
    "Recall": "ppo_jax.configs.recall",
}


def config_for(task: str) -> Config:
    """Returns the configuration of a task; a task without one gets the defaults.

    A task of somebody else may have its own, a `Config`, as the attribute `config`.
    """
    if task in CONFIGS:
        return import_module(CONFIGS[task]).CONFIG
    from ppo_jax.envs import ADAPTERS, make_task

    if task.partition(":")[0] in ADAPTERS:
        return Config(task=task)
    own = getattr(make_task(task), "config", None)
    return replace(own if isinstance(own, Config) else Config(), task=task)
