"""Trains mjlab's Cartpoles here and with mjlab's own trainer, and draws the curves.

    uv run --python 3.12 --extra mjlab benchmarks/mjlab_curves.py

Each run is a command as a user types it, `train.py` or mjlab's `train` (rsl_rl), with
the agent that the task registers, 256 environments, one thread of torch and the same
seeds, so that both have seen as many samples after as many iterations. What is drawn is
what each says of its last 100 episodes. A run that is done is kept, and not made again
by a second call; `--task NAME` makes those of one task only. Writes
docs/images/mjlab_curves.png and .json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import curves

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("MJLAB_WARP_QUIET", "1")

PICTURE = curves.IMAGES / "mjlab_curves.png"
RUNS = PICTURE.with_suffix(".json")

TASKS = ("Mjlab-Cartpole-Balance", "Mjlab-Cartpole-Swingup")
LIBRARIES = ("ppo_jax", "rsl_rl")
SEEDS = (42, 1, 2)
NUM_ENVS = 256
ITERATIONS = 80
GOAL = 40.0  # of 50, the most that an episode of 50 s can return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=TASKS, help="only this one, without picture")
    only = parser.parse_args().task
    for run in product(SEEDS, (only,) if only else TASKS, LIBRARIES):
        make(*run)
    if only is None:
        picture()


def make(seed: int, task: str, library: str) -> None:
    """Trains, unless that was done before, and keeps the curve."""
    key = key_of(task, library, seed)
    if key not in kept():
        train = train_ppo_jax if library == "ppo_jax" else train_rsl_rl
        curve = train(task, seed)
        RUNS.write_text(json.dumps(kept() | {key: curve}) + "\n")
    print(key, *said_of(kept()[key]), flush=True)


def picture() -> None:
    """Draws all curves, and prints the table."""
    done = kept()
    rows = {
        task: {
            library: {seed: done[key_of(task, library, seed)] for seed in SEEDS}
            for library in LIBRARIES
        }
        for task in TASKS
    }
    title = f"mjlab's Cartpoles, {NUM_ENVS} environments"
    curves.draw(PICTURE, title, rows, GOAL, ITERATIONS)
    for line in table(rows):
        print(line)


def key_of(task: str, library: str, seed: int) -> str:
    return f"{task} {library} {seed}"


def kept() -> dict[str, list[float]]:
    """Returns the curves of the runs that are done, by "task library seed"."""
    return json.loads(RUNS.read_text()) if RUNS.exists() else {}


def train_ppo_jax(task: str, seed: int) -> list[float]:
    words = f"--task mjlab:{task} --num_envs {NUM_ENVS} --device cpu --seed {seed}"
    return curves.train(f"{words} --max_iterations {ITERATIONS} --logger none")


def train_rsl_rl(task: str, seed: int) -> list[float]:
    """Trains by mjlab's own command; what it logged is read from its event file.

    Before the first episode has ended it logs no return.
    """
    words = f"{task} --gpu-ids None --env.scene.num-envs {NUM_ENVS}"
    words += f" --agent.seed {seed} --agent.max-iterations {ITERATIONS}"
    words += " --agent.logger tensorboard"
    command = [str(Path(sys.executable).with_name("train")), *words.split()]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (log,) = Path(folder).glob("logs/rsl_rl/*/*/events.*")
        return logged_return(log)


def logged_return(log: Path) -> list[float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(log)).Reload().Scalars("Train/mean_reward")
    found = {event.step: round(event.value, 3) for event in events}
    return [found.get(iteration, float("nan")) for iteration in range(ITERATIONS)]


def said_of(curve: list[float]) -> tuple[int | None, float]:
    """Returns when a curve comes to the goal, and its mean over the last tenth."""
    last = curve[-ITERATIONS // 10 :]
    return curves.first_at(curve, GOAL), round(statistics.mean(last), 1)


def table(rows: dict) -> list[str]:
    """Returns the lines of a table in Markdown: a row for each task and library."""
    title = " | ".join(f"seed {seed}" for seed in SEEDS)
    lines = [f"| task | library | {title} |", "|---" * (2 + len(SEEDS)) + "|"]
    for task, of_library in rows.items():
        for library, of_seed in of_library.items():
            cells = [
                "{}, {}".format(*said_of(of_seed[seed])).replace("None", "-")
                for seed in SEEDS
            ]
            lines.append(f"| {task} | {library} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
