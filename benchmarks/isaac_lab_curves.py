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
from pathlib import Path

import curves

os.environ.setdefault("OMP_NUM_THREADS", "1")

HERE = Path(__file__).resolve().parent

TASK = "Isaac-Cartpole-Direct"
SEEDS = (42, 1, 2)
ITERATIONS = 80
GOAL = 4.8  # of 5.0
RULES = {"ppo_jax, as rsl_rl": "last_value", "ppo_jax, exact": "final_obs"}


def main() -> None:
    panels = {"rsl_rl": {seed: recorded(seed) for seed in SEEDS}}
    for name, rule in RULES.items():
        panels[name] = {}
        for seed in SEEDS:
            curve = panels[name][seed] = train(seed, rule)
            first = curves.first_at(curve, GOAL)
            print(f"{name}, seed {seed}: {GOAL} at iteration {first}")
    picture = curves.IMAGES / "isaac_cartpole_curves.png"
    title = f"{TASK}, 1024 environments"
    curves.draw(picture, title, {"": panels}, GOAL, ITERATIONS)
    firsts = {
        name: {seed: curves.first_at(curve, GOAL) for seed, curve in of_seed.items()}
        for name, of_seed in panels.items()
    }
    result = {"task": TASK, "first_at_goal": firsts, "curves": panels}
    picture.with_suffix(".json").write_text(json.dumps(result) + "\n")
    print(json.dumps(firsts))


def recorded(seed: int) -> list[float]:
    path = HERE / "rsl_rl_curves" / f"cartpole_direct_1024_seed{seed}.csv"
    with path.open() as file:
        return [float(row["mean_reward"]) for row in csv.DictReader(file)]


def train(seed: int, rule: str) -> list[float]:
    words = f"--task {TASK} --num_envs 1024 --device cpu --seed {seed} --logger none"
    words += f" --max_iterations {ITERATIONS} timeout_bootstrap={rule}"
    return curves.train(words)


if __name__ == "__main__":
    main()
