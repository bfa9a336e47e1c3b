"""Shows what RND, distillation and symmetry do, and draws docs/beyond_ppo.md.

    uv run benchmarks/beyond_ppo.py [novelty] [student] [symmetry]

`novelty`: a reward that is far away is found with RND, and not without, in the same
steps. `student`: a small policy learns to act as a larger one does.
`symmetry`: how much sooner mirrored samples make Cartpole learned.
Writes docs/images/<name>_curve.png and .json.
"""

import json
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import page

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ppo_jax import Continuous, train, with_gaps
from ppo_jax.configs import config_for
from ppo_jax.envs import make
from ppo_jax.envs.task import vectorize
from ppo_jax.learning.config import RNDConfig
from ppo_jax.learning.distillation import policy_of
from ppo_jax.loops.evaluation import evaluate
from ppo_jax.policies.models import DistributionConfig, ModelConfig
from ppo_jax.runs.config import AlgorithmConfig, Config
from ppo_jax.runs.config_fields import override
from ppo_jax.runs.students import distillation_of
from ppo_jax.runs.trainers import make_trainer

GOOD = 4.5  # return of Cartpole, of at most 5
IMAGES = ROOT / "docs" / "images"
SEEDS = (42, 1, 2)


@dataclass(frozen=True)
class Far:
    """A point on a line: moving costs a little, and only its end, 10 m away, pays.

    A step is at most 0.2 m, so that the end can be reached in 50 of the 100 steps. To
    walk at random leads 2 m away. So what is learned first is to stand still: 0.
    Walking straight there wins 5 - 50 * 0.02 = 4.
    """

    goal: float = 10.0  # m
    reach: float = 0.2  # m in a step
    max_episode_length: int = 100
    step_dt: float = 1.0

    @property
    def action_space(self):
        return Continuous(1)

    def reset(self, key):
        return jnp.zeros(())

    def step(self, state, action, key, common_step):
        state = state + self.reach * jnp.clip(action[0], -1.0, 1.0)
        there = jnp.abs(state) >= self.goal
        reward = 5.0 * there - 0.02 * jnp.square(jnp.clip(action[0], -1.0, 1.0))
        return state, reward, there, {"Metrics/success_rate": jnp.float32(there)}

    def observe(self, state, key):
        return {"policy": state[None] / self.goal, "place": state[None]}


FAR = Config(
    task="Far",
    num_envs=64,
    num_steps_per_env=32,
    max_iterations=100,
    obs_groups={"rnd_state": ("place",)},
    actor=ModelConfig(hidden_dims=(32, 32), distribution_cfg=DistributionConfig()),
    critic=ModelConfig(hidden_dims=(32, 32)),
    algorithm=AlgorithmConfig(
        entropy_coef=0.0, num_learning_epochs=4, num_mini_batches=2
    ),
)
NOVELTY = RNDConfig(
    weight=0.3,
    reward_normalization=True,
    learning_rate=1e-3,
    num_outputs=8,
    predictor_hidden_dims=(32, 32),
    target_hidden_dims=(32, 32),
)


def novelty():
    """Trains with RND and without; returns {name: curves [seeds, iterations]}."""
    with_rnd = replace(FAR, algorithm=replace(FAR.algorithm, rnd_cfg=NOVELTY))
    curves = {}
    for name, config in (("PPO", FAR), ("PPO with RND", with_rnd)):
        trainer = make_trainer(config, vectorize(Far(), config.num_envs))
        curves[name] = learn(trainer)[1]
        print(name, curves[name][:, -1], flush=True)
    return curves


def learn(trainer):
    """Trains all seeds side by side; returns states and returns [seeds, iterations]."""
    config = trainer.config
    run = partial(
        train, trainer.ppo, trainer.env, config.num_steps_per_env, config.max_iterations
    )
    keys = jax.vmap(jax.random.key)(jnp.array(SEEDS))
    run, metrics = jax.jit(jax.vmap(run, in_axes=(0, None)))(keys, trainer.hparams)
    return run.train, np.asarray(with_gaps(metrics)["episode_return"])


def symmetry():
    """Trains Cartpole with mirrored samples and without, in 64 environments."""
    config = replace(config_for("Cartpole"), num_envs=64, max_iterations=120)
    uses = {
        "symmetry_cfg.data_augmentation_func": "ppo_jax.envs.cartpole:mirrored",
        "symmetry_cfg.use_data_augmentation": True,
    }
    curves = {}
    for name, made in (("PPO", config), ("mirrored too", override(config, uses))):
        trainer = make_trainer(made, make("Cartpole", made.num_envs))
        curves[name] = learn(trainer)[1]
        first = [int(np.argmax(row >= GOOD)) + 1 for row in curves[name]]
        print(name, f"return {GOOD} at iterations", first, flush=True)
    return curves


def student():
    """Trains a teacher and a student of its best seed.

    Returns {name: curves [seeds, iterations]} and {name: returns of 200 episodes}.
    """
    config = replace(config_for("Cartpole"), num_envs=256, max_iterations=90)
    teacher = make_trainer(config, make("Cartpole", config.num_envs))
    states, curve = learn(teacher)
    curves, played = {"teacher": curve}, {"teacher": play(teacher, states)}
    best = jax.tree.map(lambda x: x[int(np.argmax(played["teacher"]))], states)
    uses = {
        "student.hidden_dims": [16, 16],
        "gradient_length": 4,
        "num_learning_epochs": 4,
        "learning_rate": 3e-3,
    }
    made = override(distillation_of(config), uses)
    trainer = make_trainer(made, teacher.env, policy_of(best))
    states, curves["student"] = learn(trainer)
    played["student"] = play(trainer, states)
    for name, returns in played.items():
        print(name, returns.round(3), flush=True)
    return curves, {name: returns.tolist() for name, returns in played.items()}


def play(trainer, states):
    """Returns the mean return of 200 episodes of each seed, without noise."""
    env = vectorize(trainer.env.task, 200)
    run = partial(evaluate, trainer.ppo, env)
    played = jax.jit(jax.vmap(run, in_axes=(0, None)))(states, jax.random.key(7))
    return np.asarray(played.episode_return.mean(axis=1))


def draw(name, curves, goal, title, more):
    """Writes a picture of the curves, a line for each seed, and their numbers."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, (label, rows) in enumerate(curves.items()):
        for row in rows:
            axes.plot(row, color=f"C{number}", linewidth=1, alpha=0.8)
        axes.plot([], color=f"C{number}", label=label)
    axes.axhline(goal, color="gray", linestyle="--", linewidth=1)
    axes.set(xlabel="iteration", ylabel="mean return of 100 episodes", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGES / f"{name}_curve.png", dpi=100)
    numbers = {
        "machine": page.named(page.machine()),
        "jax": jax.__version__,
        "seeds": SEEDS,
        "curves": {label: rows.round(3).tolist() for label, rows in curves.items()},
        **more,
    }
    (IMAGES / f"{name}_curve.json").write_text(json.dumps(numbers) + "\n")


def main():
    """Runs what is named, or all."""
    names = sys.argv[1:] or ["novelty", "student", "symmetry"]
    if "novelty" in names:
        curves = novelty()
        draw("novelty", curves, 4.0, "The only reward is 10 m away", {})
    if "student" in names:
        curves, played = student()
        goal = 0.95 * max(played["teacher"])
        title = "A student of a third of the weights; dashed: 95 % of its teacher"
        draw("student", curves, goal, title, {"played": played})
    if "symmetry" in names:
        draw("symmetry", symmetry(), GOOD, "Cartpole, 64 environments", {})


if __name__ == "__main__":
    main()
