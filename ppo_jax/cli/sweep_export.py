"""A member of a sweep as the folder of an ordinary run."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ppo_jax.cli.tasks import open_trainer
from ppo_jax.runs import folders
from ppo_jax.runs.config_fields import override


def choose(member: str, ended: Sequence[Any], folder: Path) -> Any:
    """Returns how the member that is meant ended.

    Raises:
      ValueError: there is no such member, or it failed.
    """
    if member == "best":
        going = [f for f in ended if f.failed_at is None]
        longest = max((f.iterations for f in going), default=0)
        known = [f for f in going if f.iterations == longest]
        known = [f for f in known if not math.isnan(f.final_return)]
        if not known:
            raise ValueError(f"{folder} has no member that finished an episode yet")
        return max(known, key=lambda final: final.final_return)
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


def export_member(plan: Any, folder: Path, final: Any) -> Path:
    """Writes a member as the folder of an ordinary run; returns it."""
    import jax

    from ppo_jax.runs import checkpoint, continuation, metrics, trainers
    from ppo_jax.sweeps import files, planning

    config = planning.config_of(plan, final.setting, final.seed)
    config = override(config, {"run_name": f"member_{final.member}"})
    rows = member_rows(plan, files.read_rows(folder), final.member)
    if plan.pbt:  # with the values that the member has come to
        evolved = [f"hparams/{name}" for name, _, _ in plan.pbt.bounds]
        config = override(
            config, {f"algorithm.{k.partition('/')[2]}": rows[-1][k] for k in evolved}
        )
    with open_trainer(config) as trainer:
        template = continuation.saved_part(trainer, trainers.abstract_run(trainer))
    runs = files.load_runs(folder, None, [final.member], template)
    seconds = files.seconds_of(folder, final.member)
    path = folders.new_run_folder(config)
    writer = metrics.open_writer(path, config.logger)
    for iteration, scalars in enumerate(rows):
        share = (iteration + 1) / len(rows)  # a chunk's clock is that of all in it
        writer.write(iteration, scalars, seconds * share)
    writer.close()
    samples = config.num_envs * config.num_steps_per_env
    episode_return = rows[-1]["episode_return"]
    meta = {
        "iteration": final.iterations,
        "env_steps": final.iterations * samples,
        "seconds": seconds,
        "episode_return": None if math.isnan(episode_return) else episode_return,
    }
    run = jax.tree.map(lambda x: jax.numpy.asarray(x[0]), runs)
    checkpoint.save(path, run, meta, config.keep_checkpoints)
    return path


def member_rows(plan: Any, table: Any, member: int) -> list[dict[str, float]]:
    """Returns the metrics of a member, iteration by iteration."""
    import pyarrow.compute as pc

    about = {"member", "setting", "seed", "iteration", "env_steps", "finite"}
    names = [name for name in table.column_names if name not in about | {*plan.swept}]
    rows = table.filter(pc.field("member") == member).select(names).to_pylist()
    return [
        {name: float(x) for name, x in row.items() if x is not None} for row in rows
    ]
