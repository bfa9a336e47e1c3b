"""Trains the real Isaac-Cartpole-Direct and draws its curves beside those of rsl_rl.

    uv run --python 3.12 --extra isaaclab benchmarks/isaac_lab_curves.py

Each run is `train.py` as a user types it: 1024 environments, the agent that the task
registers for rsl_rl, three seeds; once with rsl_rl's value after a time-out, once with
the exact one. rsl_rl's own curves (5.5.1, same task and seeds) lie in rsl_rl_curves/.
Writes docs/images/isaac_cartpole_curves.png and .json.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
IMAGES = ROOT / "docs" / "images"

TASK = "Isaac-Cartpole-Direct"
SEEDS = (42, 1, 2)
ITERATIONS = 80
GOAL = 4.8  # of 5.0
RULES = {"ppo_jax, as rsl_rl": "last_value", "ppo_jax, exact": "final_obs"}


def main() -> None:
    curves = {"rsl_rl": {seed: recorded(seed) for seed in SEEDS}}
    for name, rule in RULES.items():
        curves[name] = {}
        for seed in SEEDS:
            curve = curves[name][seed] = train(seed, rule)
            print(f"{name}, seed {seed}: {GOAL} at iteration {first_at(curve)}")
    draw(curves)
    firsts = {
        name: {seed: first_at(curve) for seed, curve in of_seed.items()}
        for name, of_seed in curves.items()
    }
    result = {"task": TASK, "first_at_goal": firsts, "curves": curves}
    (IMAGES / "isaac_cartpole_curves.json").write_text(json.dumps(result) + "\n")
    print(json.dumps(firsts))


def recorded(seed: int) -> list[float]:
    path = HERE / "rsl_rl_curves" / f"cartpole_direct_1024_seed{seed}.csv"
    with path.open() as file:
        return [float(row["mean_reward"]) for row in csv.DictReader(file)]


def train(seed: int, rule: str) -> list[float]:
    """Returns the mean return of the last 100 episodes after each iteration."""
    words = f"--task {TASK} --num_envs 1024 --device cpu --seed {seed} --logger none"
    words += f" --max_iterations {ITERATIONS} timeout_bootstrap={rule}"
    command = [sys.executable, str(ROOT / "train.py"), *words.split()]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (table,) = Path(folder).glob("logs/ppo_jax/*/*/metrics.csv")
        with table.open() as file:
            cells = [row["episode_return"] for row in csv.DictReader(file)]
    return [round(float(cell or "nan"), 3) for cell in cells]


def first_at(curve: list[float]) -> int | None:
    """Returns the first iteration, counted from 1, with the goal; None: never."""
    return next((i for i, value in enumerate(curve, 1) if value >= GOAL), None)


def draw(curves: dict) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, of_seed) in zip(
        figure.subplots(1, len(curves), sharey=True), curves.items(), strict=True
    ):
        for seed, curve in of_seed.items():
            first = first_at(curve)
            label = f"seed {seed}: {GOAL} at {first}"
            axes.plot(range(1, len(curve) + 1), curve, label=label)
        axes.axhline(GOAL, color="gray", linestyle="--", linewidth=1)
        axes.set(title=name, xlabel="iteration", xlim=(0, ITERATIONS))
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    figure.axes[0].set_ylabel("mean return of 100 episodes")
    figure.suptitle(f"{TASK}, 1024 environments")
    figure.savefig(IMAGES / "isaac_cartpole_curves.png", dpi=100)


if __name__ == "__main__":
    main()
