"""The command `ppo-jax`, also `python -m ppo_jax`, and its verbs."""

import sys
from importlib import import_module
from pathlib import Path

from ppo_jax.cli import entry
from ppo_jax.options import nearest

COMMANDS = {
    "train": "train a policy",
    "play": "play a trained policy, or film it",
    "sweep": "train many at once, over seeds and hyper-parameters",
    "export": "write a trained policy for a robot, or for rsl_rl",
    "report": "write a page on a run that one can send",
    "compare": "lay runs over each other, with intervals over seeds",
}


def main() -> None:
    """Runs the command that is named first; without one, lists them."""
    program = "ppo-jax"
    if Path(sys.argv[0]).name == "__main__.py":
        program = "python -m ppo_jax"
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        lines = [f"  {program} {name:<8} {text}" for name, text in COMMANDS.items()]
        print(*lines, "\nEach has --help.", sep="\n")
        return
    if name not in COMMANDS:
        sys.argv[0] = program
        entry.complain(f"there is no command {name!r}: {nearest(name, COMMANDS)}")
        sys.exit(entry.USAGE_ERROR)
    sys.argv = [f"{program} {name}", *rest]
    entry.run_script(import_module(f"ppo_jax.cli.{name}").main)
