"""Plays a trained policy: `uv run play.py --task Cartpole --video cartpole.mp4`."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ppo_jax.cli import command_line, entry, exporting, filming, help_page, weights
from ppo_jax.cli.command_line import Arguments, Flag, field_flag
from ppo_jax.cli.tasks import (
    DEFAULT_TASK,
    checked_task,
    default_config,
    open_trainer,
    parse,
)
from ppo_jax.cli.weights import RSL_RL_SUFFIX
from ppo_jax.options import check_options, option, positive, seed_number
from ppo_jax.runs.config_fields import override, parse_literal

if TYPE_CHECKING:
    from ppo_jax.types import TrainState

CHANGEABLE = ("clip_actions", "simulator.device", "simulator.bridge")
FLAGS = [
    Flag("task", "NAME", f"whose newest run to play ({DEFAULT_TASK})"),
    Flag(
        "checkpoint",
        "PATH",
        "a run, a checkpoint of it, latest, best or an rsl_rl .pt",
    ),
    Flag("export", "FILE", "write policy.onnx for a robot, or model_N.pt for rsl_rl"),
    Flag("dynamic_batch", None, "policy.onnx takes any number of observations"),
    Flag("num_envs", "N", "episodes, one in each environment (100)"),
    Flag("seed", "N", "seed of the episodes (0)"),
    Flag("experiment_name", "TEXT", "folder of the runs, where it is not the task's"),
    field_flag("clip_actions", "X"),
    Flag("video", "FILE", "film one episode into FILE.mp4 or FILE.gif"),
    Flag("viewer", None, "show it on a page in the browser, while it learns as well"),
    Flag("port", "N", "of that page (8080)"),
    field_flag("simulator.device", "NAME"),
    field_flag("simulator.bridge", "NAME"),
    Flag("dump_nan", "FILE", "play back what train.py --dump_nan kept"),
    Flag("train_env_cfg", None, "play Isaac Lab's task as it was trained, with noise"),
    Flag("headless", None, "accepted, and always so"),
    Flag("help", None, "show this"),
]
EXAMPLES = {
    "play.py": "play the newest Cartpole policy 100 times",
    "play.py --task Franka-Reach --video reach.gif": "another task, filmed",
    "play.py --dump_nan FILE": "how a run of train.py --dump_nan came to a NaN",
    "play.py --viewer": "the newest policy in the browser, while it is trained",
    "play.py --checkpoint best": "the checkpoint with the best return",
}


@dataclass(frozen=True)
class Episodes:
    """Which episodes are played."""

    num_envs: int = option(100, "episodes, one in each environment", positive)
    seed: int = option(0, "seed of the episodes", seed_number)

    def __post_init__(self) -> None:
        """Checks every field."""
        check_options(self)


def run(argv: list[str]) -> NoReturn:
    """Plays as Isaac Lab's own command line asks: `isaaclab play`."""
    sys.argv = [f"{entry.ISAAC_LAB} play", *argv]
    entry.run_script(main)


def main() -> int:
    """Plays as the command line says; returns the exit code."""
    arguments = parse(sys.argv[1:], FLAGS, fields=False)
    flags = arguments.flags
    if "help" in flags:
        command_line.refuse_others(arguments, "--help", {"help"})
        help_page.print_help("Play a trained policy.", EXAMPLES, FLAGS)
        return 0
    video = Path(str(flags["video"])) if "video" in flags else None
    episodes = episodes_of(flags)
    if video:
        filming.check_name(video)
    if "dump_nan" in flags:
        return play_back(arguments, video)
    if "viewer" in flags:
        return look(arguments, episodes)
    if "port" in flags:
        raise ValueError("--port is that of the page of --viewer: give that as well")
    return play(arguments, episodes, video)


def play_back(arguments: Arguments, video: Path | None) -> int:
    """Shows how environments came to a NaN."""
    known = {"dump_nan", "video", *CHANGEABLE, "headless"}
    command_line.refuse_others(arguments, "--dump_nan", known)
    from ppo_jax.cli import replaying

    flags = arguments.flags
    changes = {name: flags[name] for name in CHANGEABLE if name in flags}
    replaying.replay(Path(str(flags["dump_nan"])), video, changes)
    return 0


def look(arguments: Arguments, episodes: Episodes) -> int:
    """Plays on a page in the browser until it is ended; returns the exit code."""
    known = {flag.name for flag in FLAGS} - {"video", "export", "dynamic_batch"}
    command_line.refuse_others(arguments, "--viewer", {*known, *arguments.tokens})
    from ppo_jax.cli import viewer

    flags = arguments.flags
    viewer.require_viser()
    port = viewer.free_port(flags)
    num_envs = episodes.num_envs if "num_envs" in flags else viewer.NUM_ENVS
    with open_policy(arguments, num_envs) as (trainer, learned, source):
        follow = weights.is_newest(flags)
        viewer.view(trainer, learned, source, follow, port, episodes.seed)
    return 0


def episodes_of(flags: Mapping[str, Any]) -> Episodes:
    """Returns the episodes that flags ask for.

    Raises:
      ValueError: a number is none, or too small.
    """
    given = {k: str(flags[k]) for k in ("num_envs", "seed") if k in flags}
    return Episodes(**{k: parse_literal(text) for k, text in given.items()})


def play(arguments: Arguments, episodes: Episodes, video: Path | None) -> int:
    """Plays episodes with the deterministic policy, and prints how they went.

    Returns:
      The exit code: 1 if a return, or what was logged, is not finite.
    """
    flags = arguments.flags
    exporting.check(flags)
    if video:
        filming.check_writable(video)
    with open_policy(arguments, episodes.num_envs, video is not None) as policy:
        import jax

        from ppo_jax.runs import trainers

        trainer, state, source = policy
        key = jax.random.key(episodes.seed)
        if "export" in flags:
            exporting.export(trainer, state, key, flags, source)
        result, reported = trainers.evaluate(trainer, state, key)
        for line in summary(result, reported):
            print(line)
        what = not_finite(result, reported)
        if what:
            entry.complain(f"not finite: {what}: play another checkpoint or policy")
            return 1
        if video:
            print(f"Video: {filming.film(trainer, state, video, episodes.seed)}")
    return 0


@contextmanager
def open_policy(
    arguments: Arguments, num_envs: int, film: bool = False
) -> "Iterator[tuple[Any, TrainState, Path]]":
    """Gives what a command line asks to play: environments, a policy, and its place.

    Args:
      arguments: of the command line.
      num_envs: N, how many environments.
      film: make pictures of a simulator possible.

    Yields:
      The trainer, what was learned, and the run's folder or the file of rsl_rl.
    """
    flags = arguments.flags
    source = Path(str(flags.get("checkpoint", "")))
    if source.suffix == RSL_RL_SUFFIX:
        load = partial(weights.load_foreign, path=source)
        config = default_config(checked_task(flags))
        weights.check_source(str(source), config)
    else:
        source, which, config = weights.find_run(flags)
        load = partial(weights.load_checkpoint, folder=source, which=which)
    changes: dict[str, Any] = {k: v for k, v in flags.items() if k in CHANGEABLE}
    overrides = (*config.simulator.overrides, *arguments.tokens)
    config = override(config, changes | {"simulator.overrides": overrides})
    how = {"play_mode": "train_env_cfg" not in flags, "film": film}
    with open_trainer(config, num_envs, **how) as trainer:
        yield trainer, load(trainer), source


def summary(result: Any, reported: Mapping[str, float]) -> Iterator[str]:
    """Yields a line on the returns, the lengths, and each thing that was reported.

    An episode whose return, or whose own word on it, is not finite is no success.

    Args:
      result: `Evaluation` of the episodes.
      reported: {tag: mean} of what a simulator logged meanwhile.
    """
    import numpy as np

    returns = np.asarray(result.episode_return)
    lengths = np.asarray(result.episode_length)
    yield (
        f"Return over {len(returns)} episodes: {returns.mean():.3f} +- "
        f"{returns.std():.3f} (min {returns.min():.3f}, max {returns.max():.3f})"
    )
    yield f"Episode length: {lengths.mean():.1f} steps"
    for tag, values in result.log.items():
        values = np.asarray(values)
        if tag.endswith("success_rate"):
            ended_well = np.where(np.isfinite(values) & np.isfinite(returns), values, 0)
            yield f"Success: {ended_well.sum():.0f} of {len(values)} episodes"
        else:
            yield f"{tag.removeprefix('Metrics/')}: {values.mean():.3f}"
    for tag, value in reported.items():
        if tag.startswith("Perf/"):
            continue
        yield f"{tag.removeprefix('Metrics/')}: {value:.3f}"


def not_finite(result: Any, reported: Mapping[str, float]) -> str:
    """Says which numbers of an evaluation are NaN or infinite; empty: none."""
    import numpy as np

    values = {"return": result.episode_return, **result.log}
    counts = {tag: np.count_nonzero(~np.isfinite(x)) for tag, x in values.items()}
    episodes = len(result.episode_return)
    bad = [f"{tag} of {n} of {episodes} episodes" for tag, n in counts.items() if n]
    bad += [tag for tag, value in reported.items() if not np.isfinite(value)]
    return ", ".join(tag.removeprefix("Metrics/") for tag in bad)
