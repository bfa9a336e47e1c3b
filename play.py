"""Plays a trained policy: `uv run play.py --task Cartpole`."""

from ppo_jax.cli.entry import run_script
from ppo_jax.cli.play import main

if __name__ == "__main__":
    run_script(main)
