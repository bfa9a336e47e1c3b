"""What `train.py --list` prints: every task that there is."""

from ppo_jax.cli import command_line
from ppo_jax.cli.command_line import Arguments
from ppo_jax.cli.simulators import BACKENDS


def list_tasks(arguments: Arguments) -> int:
    """Prints every task with a line about it."""
    from ppo_jax.envs import ADAPTERS, TASKS, describe, tasks_of_others

    command_line.refuse_others(arguments, "--list", {"list"})
    for task in TASKS:
        print(f"  {task:<20} {describe(task)}")
    for task, found in tasks_of_others().items():
        print(f"  {task:<20} {found.value}")
    for prefix, (_, _, about) in ADAPTERS.items():
        print(f"  {prefix + ':NAME':<20} {about}")
    print(f"  {'MODULE:FUNCTION':<20} what returns a task of your own")
    for backend in BACKENDS.values():
        for line in backend.listing():
            print(f"  {line}")
    return 0
