"""Trains tasks of Brax and MuJoCo Playground beside what is published for them.

    uv run --extra adapters benchmarks/brax_tasks.py [--task TASK]

Each run is `train.py` as a user types it, for the samples that two cores can do, three
seeds. What is counted is how many samples it took until the mean return of the last 100
episodes, those of training, came to the return that is published. A run that is done is
kept in docs/images/brax_tasks.json and not made again by a second call; the table is
written into docs/tasks.md.
"""

import argparse
import json
import re
import sys
import time
from dataclasses import asdict, dataclass
from itertools import product

import curves
import page

RUNS = curves.IMAGES / "brax_tasks.json"
PAGE = curves.ROOT / "docs" / "tasks.md"
HEADING = "### What is learned there"
SEEDS = (42, 1, 2)

# Brax's PPO as both publish it: squashed Gaussian, normalised observations, one
# learning rate, clipping at 0.3, a policy of 4 x 32. For two cores there are 256
# environments, not 2048, minibatches in proportion, and 4 x 64 units of the critic,
# not 5 x 256.
NUM_ENVS = 256
NUM_STEPS = 40
WORDS = f"""
    --num_envs {NUM_ENVS} --num_steps_per_env {NUM_STEPS} --logger none
    actor.hidden_dims=[32,32,32,32] critic.hidden_dims=[64,64,64,64]
    actor.activation=swish critic.activation=swish
    actor.obs_normalization=true critic.obs_normalization=true
    actor.distribution_cfg.class_name=TanhGaussianDistribution
    clip_param=0.3 value_loss_coef=0.5
    num_mini_batches=8 num_learning_epochs=4
"""


@dataclass(frozen=True)
class Published:
    """What is published for a task, and how long it is trained here."""

    samples: int  # with which Brax's PPO is trained there
    goal: float  # return
    words: str  # discount, learning rate and entropy bonus, as there
    iterations: int  # here


# Samples and settings: Brax's notebooks/training.ipynb, whose backend is positional,
# and mujoco_playground/config/dm_control_suite_params.py of Playground 0.2.0. Returns:
# the reward_threshold of Gymnasium 1.3 for the task that Brax's is made after, and what
# SLM-Lab's docs/BENCHMARKS.md reads off Playground's own curves. With the published
# rate the double pendulum moves by a KL of 0.002 a minibatch here: its rate follows the
# KL instead, up to 0.01, where the logarithm of the std is safer than the std itself.
BRAX = "gamma=0.97 learning_rate=3e-4 schedule=fixed entropy_coef=0.01"
BRAX_BY_KL = (
    "gamma=0.97 learning_rate=1e-3 desired_kl=0.01 entropy_coef=0.01 "
    "actor.distribution_cfg.std_type=log"
)
PLAYGROUND = "gamma=0.995 learning_rate=1e-3 schedule=fixed entropy_coef=0.01"
TASKS = {
    "brax:inverted_pendulum:positional": Published(2_000_000, 950.0, BRAX, 100),
    "brax:inverted_double_pendulum:positional": Published(
        20_000_000, 9100.0, BRAX_BY_KL, 200
    ),
    "playground:CartpoleBalance": Published(60_000_000, 950.0, PLAYGROUND, 300),
    "playground:CartpoleBalanceSparse": Published(60_000_000, 700.0, PLAYGROUND, 300),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=TASKS, help="only this one")
    only = parser.parse_args().task
    for seed, task in product(SEEDS, (only,) if only else TASKS):
        make(task, seed)
    write(table(kept()))


def make(task: str, seed: int) -> None:
    """Trains, unless that was done before, and keeps the curve."""
    key = f"{task} {seed}"
    if key not in kept():
        published = TASKS[task]
        words = f"--task {task} --seed {seed} --max_iterations {published.iterations}"
        started = time.perf_counter()
        curve = curves.train(f"{words} {WORDS} {published.words}")
        run = {"seconds": round(time.perf_counter() - started), "curve": curve}
        run |= asdict(published) | {"machine": page.named(page.machine())}
        RUNS.write_text(json.dumps(kept() | {key: run}) + "\n")
    print(key, said_of(kept()[key]), flush=True)


def kept() -> dict[str, dict]:
    """Returns the runs that are done, by "task seed"."""
    return json.loads(RUNS.read_text()) if RUNS.exists() else {}


def said_of(run: dict) -> str:
    """Returns a cell: when the goal was first reached, or how far it came."""
    first = curves.first_at(run["curve"], run["goal"])
    if first is not None:
        return f"{first * NUM_ENVS * NUM_STEPS / 1e6:.2f} M"
    ended = [value for value in run["curve"] if value == value]  # NaN: no episode yet
    samples = len(run["curve"]) * NUM_ENVS * NUM_STEPS
    return f"{max(ended, default=0.0):.0f} at best in {samples / 1e6:.2f} M"


def table(runs: dict[str, dict]) -> list[str]:
    """Returns a row for each task that was trained."""
    titles = ("task", "return", "samples there", *(f"seed {seed}" for seed in SEEDS))
    lines = [row(*titles, "seconds of a run"), "|---" * (len(titles) + 1) + "|"]
    for task, published in TASKS.items():
        done = [runs.get(f"{task} {seed}") for seed in SEEDS]
        if not any(done):
            continue
        seconds = [run["seconds"] for run in done if run]
        lines.append(
            row(
                f"`{task}`",
                f"{published.goal:g}",
                f"{published.samples / 1e6:g} M",
                *(said_of(run) if run else "-" for run in done),
                f"{min(seconds)} to {max(seconds)}",
            )
        )
    return lines


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def write(lines: list[str]) -> None:
    """Puts the table in the place of the one that the page has."""
    print(*lines, sep="\n")
    text = PAGE.read_text()
    found = re.search(r"(\|.*\n)+", text[text.index(HEADING) :])
    if found is None:
        sys.exit(f"{PAGE} has no table under {HEADING!r}")
    PAGE.write_text(text.replace(found[0], "\n".join(lines) + "\n"))


if __name__ == "__main__":
    main()
