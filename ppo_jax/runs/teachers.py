"""The teacher of a distillation, read from the run in which it learned."""

from collections.abc import Callable
from pathlib import Path

import jax

from ppo_jax.learning.distillation import TEACHER, Learned, policy_of
from ppo_jax.runs import checkpoint, folders, trainers
from ppo_jax.runs.config import Config, DistillationAlgorithm
from ppo_jax.runs.trainers import Trainer

RSL_RL_SUFFIX = ".pt"
ReadFile = Callable[[Path, Config], Learned]


def load_teacher(trainer: Trainer, read_file: ReadFile | None = None) -> Learned:
    """Returns what the teacher that `algorithm.teacher_checkpoint` names has learned.

    Of a run of PPO that is its actor, of a distillation its student.

    Args:
      trainer: of the distillation, whose environments the teacher was trained for.
      read_file: reads one of rsl_rl's; None refuses it.

    Raises:
      ValueError: there is none, or it has another network than the configured one.
    """
    config = trainer.config
    assert isinstance(config.algorithm, DistillationAlgorithm)
    place = config.algorithm.teacher_checkpoint
    if not place:
        raise ValueError(
            "algorithm.teacher_checkpoint is not set, and Distillation needs a "
            "teacher: give a run, a checkpoint of it, or a model_N.pt of rsl_rl"
        )
    if not place.endswith(RSL_RL_SUFFIX):
        learned = _of_run(trainer, place)
    elif read_file:
        learned = read_file(Path(place), config)
    else:
        raise ValueError(
            f"teacher_checkpoint = {place}: a sweep takes its teacher from a run: "
            "train.py makes one of it with max_iterations=1"
        )
    state = trainers.abstract_run(trainer).train
    _require_fits(place, learned, Learned(state.params[TEACHER], ()))
    return learned


def _of_run(trainer: Trainer, place: str) -> Learned:
    folder, which = folders.find_run(place, folders.experiment_of(trainer.config))
    source = trainers.make_trainer(folders.load_config(folder), trainer.env)
    template = trainers.abstract_run(source).train
    return policy_of(checkpoint.restore_train(folder, template, which).state)


def _require_fits(place: str, learned: Learned, wanted: Learned) -> None:
    """Raises ValueError, with the first weight of another shape, if there is one."""
    found = dict(jax.tree.leaves_with_path(learned.params))
    right = dict(jax.tree.leaves_with_path(wanted.params))
    for path in [*right, *found]:
        shapes = [
            list(side[path].shape) if path in side else "not there"
            for side in (found, right)
        ]
        if shapes[0] != shapes[1]:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise ValueError(
                f"the teacher of {place} does not fit: {name} is {shapes[0]} there and "
                f"{shapes[1]} here; leave teacher and obs_groups away, or give those "
                "that it was trained with"
            )
