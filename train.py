"""Trains a policy: `uv run train.py --task Cartpole`."""

from ppo_jax.cli import run_script
from ppo_jax.scripts.train import main

if __name__ == "__main__":
    run_script(main)
