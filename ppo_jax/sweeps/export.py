"""A member of a sweep as the folder of an ordinary run."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax

from ppo_jax.runs import checkpoint, continuation, folders, metrics, trainers
from ppo_jax.runs.config import Config
from ppo_jax.runs.config_fields import override
from ppo_jax.runs.trainers import Trainer
from ppo_jax.sweeps import files, planning
from ppo_jax.sweeps.planning import Sweep
from ppo_jax.sweeps.ranking import Final

OpenTrainer = Callable[[Config], AbstractContextManager[Trainer]]


def choose(member: str, ended: Sequence[Final], folder: Path) -> Final:
    """Returns how the member that is meant ended.

    Raises:
      ValueError: there is no such member, or it failed.
    """
    if member == "best":
        return _best(ended, folder)
    by_number = {str(final.member): final for final in ended}
    if member not in by_number:
        raise ValueError(
            f"--export {member}: give best or the number of a member, 0 to "
            f"{max(final.member for final in ended)}, that {folder} has finished"
        )
    final = by_number[member]
    if final.failed_at is not None:
        raise ValueError(
            f"--export {member}: it became NaN or infinite in iteration "
            f"{final.failed_at + 1}, and there is nothing to go on from"
        )
    return final


def _best(ended: Sequence[Final], folder: Path) -> Final:
    going = [final for final in ended if final.failed_at is None]
    longest = max((final.iterations for final in going), default=0)
    known = [final for final in going if final.iterations == longest]
    known = [final for final in known if not math.isnan(final.final_return)]
    if not known:
        raise ValueError(f"{folder} has no member that finished an episode yet")
    return max(known, key=lambda final: final.final_return)


def export_member(
    plan: Sweep, folder: Path, final: Final, open_trainer: OpenTrainer
) -> Path:
    """Writes a member as the folder of an ordinary run.

    Args:
      plan: of the sweep.
      folder: of the sweep.
      final: how the member ended.
      open_trainer: opens the trainer of a configuration, for the shapes of its run.

    Returns:
      The folder of the run.
    """
    rows = member_rows(plan, files.read_rows(folder), final.member)
    config = _config_of(plan, final, rows[-1])
    with open_trainer(config) as trainer:
        template = continuation.saved_part(trainer, trainers.abstract_run(trainer))
    runs = files.load_runs(folder, None, [final.member], template)
    seconds = files.seconds_of(folder, final.member)
    path = folders.new_run_folder(config)
    _write_curves(path, config, rows, seconds)
    samples = config.num_envs * config.num_steps_per_env
    episode_return = rows[-1]["episode_return"]
    meta = {
        "iteration": final.iterations,
        "env_steps": final.iterations * samples,
        "seconds": seconds,
        "episode_return": None if math.isnan(episode_return) else episode_return,
    }
    meta |= files.simulator_of(folder, final.member)
    run = jax.tree.map(lambda x: jax.numpy.asarray(x[0]), runs)
    checkpoint.save(path, run, meta, config.keep_checkpoints)
    return path


def _config_of(plan: Sweep, final: Final, last: Mapping[str, float]) -> Config:
    """Returns the configuration of a member, with the values that it has come to."""
    config = planning.config_of(plan, final.setting, final.seed)
    values: dict[str, Any] = {"run_name": f"member_{final.member}"}
    if plan.pbt:
        explored = [name for name, _, _ in plan.pbt.bounds]
        values |= {f"algorithm.{name}": last[f"hparams/{name}"] for name in explored}
    return override(config, values)


def _write_curves(
    folder: Path, config: Config, rows: Sequence[Mapping[str, float]], seconds: float
) -> None:
    writer = metrics.open_writer(folder, config.logger)
    for iteration, scalars in enumerate(rows):
        share = (iteration + 1) / len(rows)  # a chunk's clock is that of all in it
        writer.write(iteration, scalars, seconds * share)
    writer.close()


def member_rows(plan: Sweep, table: Any, member: int) -> list[dict[str, float]]:
    """Returns the metrics of a member, iteration by iteration."""
    import pyarrow.compute as pc

    about = {"member", "setting", "seed", "iteration", "env_steps", "finite"}
    names = [name for name in table.column_names if name not in about | {*plan.swept}]
    rows = table.filter(pc.field("member") == member).select(names).to_pylist()
    return [
        {name: float(x) for name, x in row.items() if x is not None} for row in rows
    ]
