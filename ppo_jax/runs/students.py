"""What configures a distillation: its networks, and what they are to a run of PPO."""

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from ppo_jax.policies.models import DistributionConfig, ModelConfig
from ppo_jax.runs.config import AlgorithmConfig, Config, DistillationAlgorithm

if TYPE_CHECKING:
    from ppo_jax.types import ActionSpace, ActorCritic

MODELS = ("student", "teacher")
STUDENT_STD = 0.1  # with which a student acts, as Isaac Lab's do


def networks_of(
    config: Config, action_space: "ActionSpace", available: Collection[str]
) -> "tuple[ActorCritic, ActorCritic]":
    """Returns the student and the teacher that a configuration describes.

    Args:
      config: of a distillation.
      action_space: of the environment.
      available: observation groups of the environment.

    Raises:
      ValueError: the actions are discrete, or a group is not there.
    """
    from ppo_jax.policies.actor_critic import actor_critic
    from ppo_jax.policies.groups import resolve_obs_groups
    from ppo_jax.types import Discrete

    if isinstance(action_space, Discrete):
        raise ValueError(
            f"{config.task} has discrete actions, and Distillation measures how far "
            "one action is from another: give a task with continuous ones"
        )
    chosen = resolve_obs_groups(config.obs_groups, tuple(available), MODELS)

    def network(name: str) -> "ActorCritic":
        """Returns a network whose value, of the same groups, nobody asks for."""
        model, critic = getattr(config, name), ModelConfig()
        if model.cnn_cfg is not None:  # what sees images reads these groups too
            critic = replace(model, distribution_cfg=None, obs_normalization=False)
        groups = {"actor": chosen[name], "critic": chosen[name]}
        return actor_critic(action_space, model, critic, groups)

    return network("student"), network("teacher")


def is_distillation(config: Config) -> bool:
    """Returns whether a student imitates a teacher in a run."""
    return isinstance(config.algorithm, DistillationAlgorithm)


def distillation_of(config: Config, teacher: Config | None = None) -> Config:
    """Returns a configuration of PPO as one of distillation on the same task.

    The student is what the actor is; its observations and its size are yours to change.

    Args:
      config: of the task.
      teacher: of the run that the teacher comes from; None: as `config`. If it is a
        distillation itself, its student is the teacher.
    """
    source = config if teacher is None else student_of(teacher)
    distribution = config.actor.distribution_cfg or DistributionConfig()
    student = replace(
        config.actor, distribution_cfg=replace(distribution, init_std=STUDENT_STD)
    )
    return replace(
        config,
        algorithm=DistillationAlgorithm(),
        student=student,
        teacher=source.actor,
        actor=Config().actor,
        critic=Config().critic,
        obs_groups={
            "student": config.obs_groups.get("actor", ("policy",)),
            "teacher": source.obs_groups.get("actor", ("policy",)),
        },
    )


def student_of(config: Config) -> Config:
    """Returns the configuration of PPO in which a student is the actor.

    One of PPO is returned as it is.
    """
    if not is_distillation(config) or config.student is None:
        return config
    groups = config.obs_groups.get("student")
    return replace(
        config,
        algorithm=AlgorithmConfig(num_mini_batches=1),
        actor=config.student,
        critic=ModelConfig(),
        student=None,
        teacher=None,
        obs_groups={"actor": groups, "critic": groups} if groups else {},
    )
