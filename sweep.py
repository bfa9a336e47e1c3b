"""Trains many members at once: `uv run sweep.py --seeds 16 gamma=0.97,0.99`."""

from ppo_jax.cli.entry import run_script
from ppo_jax.cli.sweep import main

if __name__ == "__main__":
    run_script(main)
