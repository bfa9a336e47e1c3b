"""Trains a policy: `uv run train.py --task Cartpole`."""

from ppo_jax.cli.entry import run_script
from ppo_jax.cli.train import main

if __name__ == "__main__":
    run_script(main)
