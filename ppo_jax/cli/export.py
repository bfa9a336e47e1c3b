"""Writes a trained policy for a robot: `isaaclab leapp export --rl_library ppo_jax`.

Of Isaac Lab's three verbs it is the third, "export" in its table; 3.0 has it under its
own tool, and what is written is what `play.py --export` writes.
"""

import sys
from typing import Any, NoReturn

from ppo_jax.cli import command_line, entry, exporting, help_page, play
from ppo_jax.cli.command_line import Flag
from ppo_jax.cli.tasks import parse

NUM_ENVS = 4  # whose episodes the file is tried on
FOLDER = "exported"  # in a run's folder, as Isaac Lab has it
UNUSED = ("export", "num_envs", "video")
FLAGS = [
    Flag("export", "FILE", "policy.onnx, or model_N.pt (in the run: exported/)"),
    *(flag for flag in play.FLAGS if flag.name not in UNUSED),
]
EXAMPLES = {
    "export.py --task Franka-Reach": (
        "the newest run of the task as exported/policy.onnx in its folder"
    ),
    "export.py --checkpoint best --export reach.onnx": "the best checkpoint, elsewhere",
}


def run(argv: list[str]) -> NoReturn:
    """Exports as Isaac Lab's own command line asks."""
    sys.argv = [f"{entry.ISAAC_LAB} export", *argv]
    entry.run_script(main)


def main() -> int:
    """Exports as the command line says; returns the exit code."""
    arguments = parse(sys.argv[1:], FLAGS, fields=False)
    flags: dict[str, Any] = dict(arguments.flags)
    if "help" in flags:
        command_line.refuse_others(arguments, "--help", {"help"})
        help_page.print_help("Export a trained policy.", EXAMPLES, FLAGS)
        return 0
    seed = play.episodes_of(flags).seed
    name = f"policy{exporting.ONNX_SUFFIX}"
    exporting.check({"export": name} | flags)
    with play.open_policy(arguments, NUM_ENVS) as (trainer, state, source):
        import jax

        folder = source if source.is_dir() else source.parent
        flags.setdefault("export", folder / FOLDER / name)
        exporting.export(trainer, state, jax.random.key(seed), flags, source)
    return 0
