"""What `play.py --dump_nan` shows: how environments came to a NaN, step by step."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from ppo_jax.cli import filming
from ppo_jax.cli.tasks import make_env
from ppo_jax.runs import nan_dump
from ppo_jax.runs.config import Config
from ppo_jax.runs.config_fields import from_dict, override
from ppo_jax.runs.nan_dump import Dump

BEFORE, AFTER = 6, 3  # steps that are printed
FRAMES_PER_SECOND = 10.0  # whatever the task's own time: one step at a glance


def replay(path: Path, video: Path | None, changes: Mapping[str, Any]) -> None:
    """Prints what a dump holds, steps from its states again, and films them.

    Args:
      path: of the dump; that of mjlab's own guard is understood as well.
      video: film to write; None: none.
      changes: of the configuration, such as the device.

    Raises:
      ValueError: it is no dump, or the film cannot be written.
    """
    from ppo_jax.envs import mjlab_dump

    if mjlab_dump.is_one(path):
        lines, pictures = mjlab_dump.describe(path), mjlab_dump.pictures(path)
    else:
        dump = nan_dump.load(path)
        config = override(from_dict(dump.about["config"]), changes)
        lines, pictures = _described(path, config, dump), _pictures(config, dump)
    for line in lines:
        print(line)
    if video:
        filming.write(video, pictures, FRAMES_PER_SECOND)
        print(f"Video: {video}")


def _described(path: Path, config: Config, dump: Dump) -> Iterator[str]:
    about, first = dump.about, nan_dump.bad_from(dump)
    yield (
        f"{path}: {config.task}, environments {dump.env_ids.tolist()} of "
        f"{about['num_envs']}, {len(dump.reward)} steps up to iteration "
        f"{about['iteration']}, in which {about['what']} became NaN or infinite"
    )
    for index, (env_id, bad) in enumerate(zip(dump.env_ids, first, strict=True)):
        yield ""
        if bad > len(dump.reward):
            yield f"environment {env_id}: nothing here is NaN or infinite"
            continue
        names = ", ".join(nan_dump.not_finite_at(dump, bad, index))
        yield f"environment {env_id}: from step {bad} on {names}"
        yield f"{'step':>6} {'largest |state|':>16} {'|action|':>10} {'reward':>10}"
        for step in range(max(bad - BEFORE, 0), min(bad + AFTER, len(dump.reward))):
            yield _row(dump, step, index)
    if not about["simulator"]:
        yield ""
        yield _stepped_again(config, dump)


def _row(dump: Dump, step: int, index: int) -> str:
    states = [x[step, index] for x in dump.states.values()]
    numbers = [x for x in states if np.issubdtype(x.dtype, np.inexact) and x.size]
    largest = max((float(np.abs(x).max()) for x in numbers), default=0.0)
    if any(np.isnan(x).any() for x in numbers):
        largest = float("nan")
    action = float(np.abs(dump.action[step, index]).max())
    ends = "  an episode ends" if dump.done[step, index] else ""
    reward = dump.reward[step, index]
    return f"{step:>6} {largest:>16.4g} {action:>10.4g} {reward:>10.4g}{ends}"


def _stepped_again(config: Config, dump: Dump) -> str:
    """Takes every step from the state that it was taken from; says if it is the same.

    The other environments, of which nothing is known, are copies of the first.
    """
    import jax

    from ppo_jax.loops.programs import jit

    env = make_env(config)
    template, _ = jax.eval_shape(env.reset, jax.random.key(0))
    step, most = jit(env, env.step), 0.0  # compiled as the run's steps were
    for index in range(len(dump.reward)):
        env_state = _whole(dump, template, index)
        action = _spread(dump.action[index], dump.env_ids, config.num_envs)
        found = nan_dump.named_leaves(step(env_state, action)[0])
        for name, kept in dump.states.items():
            most = max(
                most,
                _difference(np.asarray(found[name])[dump.env_ids], kept[index + 1]),
            )
    words = "the same to the last bit" if most == 0 else f"apart by up to {most:.2g}"
    return f"Stepped again from each state, with its action: {words}."


def _whole(dump: Dump, template: Any, index: int) -> Any:
    """Returns the state of all environments before a step, as `env.step` takes it."""
    import jax
    import jax.numpy as jnp

    def leaf(path: Any, spec: Any) -> Any:
        name = jax.tree_util.keystr(path)
        if name in dump.states:
            x = _spread(dump.states[name][index], dump.env_ids, dump.about["num_envs"])
        else:
            x = dump.shared[name][index]
        return jax.random.wrap_key_data(jnp.asarray(x)) if nan_dump.is_key(spec) else x

    return jax.tree_util.tree_map_with_path(leaf, template)


def _spread(rows: np.ndarray, env_ids: np.ndarray, num_envs: int) -> np.ndarray:
    """Returns [N, ...] with the rows at their places, and the first elsewhere."""
    x = np.repeat(rows[:1], num_envs, axis=0)
    x[env_ids] = rows
    return x


def _difference(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the largest difference; a NaN is like a NaN, and unlike all else."""
    if np.array_equal(x, y, equal_nan=np.issubdtype(x.dtype, np.inexact)):
        return 0.0
    x, y = x.astype(np.float64), y.astype(np.float64)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    return float(np.nan_to_num(np.where(same, 0, np.abs(x - y)), nan=np.inf).max())


def _pictures(config: Config, dump: Dump) -> Iterator[Any]:
    """Yields pictures of the first environment up to where it went wrong, or the end.

    What is not finite cannot be drawn.
    """
    steps = range(min(nan_dump.bad_from(dump)[0], len(dump.reward) + 1))
    if dump.about["simulator"]:
        yield from _photographed(config, dump, steps)
        return
    import jax

    from ppo_jax.envs.drawing import pictures

    env: Any = make_env(config)
    template, _ = jax.eval_shape(env.reset, jax.random.key(0))
    first = dump.env_ids[0]

    def states() -> Iterator[tuple[Any, str]]:
        for step in steps:
            env_state = _whole(dump, template, step)
            task_state = jax.tree.map(lambda x: x[first], env_state.task_state)
            yield task_state, f"{config.task}, environment {first}, step {step}"

    yield from pictures(env.task, states())


def _photographed(config: Config, dump: Dump, steps: range) -> Iterator[Any]:
    """Yields pictures of a simulator that the states are put into."""
    env: Any = make_env(config, len(dump.env_ids), film=True)
    with closing(env):
        for step in steps:
            states = {name: x[step] for name, x in dump.states.items()}
            env.torch_env.set_states(states)
            yield env.torch_env.frame()
