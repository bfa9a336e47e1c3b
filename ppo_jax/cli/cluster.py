"""Several processes of one command: how a command line says so; all do the same."""

from collections.abc import Callable

from ppo_jax.cli.command_line import Arguments, whole_number
from ppo_jax.runs import folders, processes
from ppo_jax.runs.processes import Cluster

FLAGS = ("coordinator_address", "num_processes", "process_id")
ONE_PROCESS = "a --population runs in one process, with its simulator"


def cluster_of(arguments: Arguments) -> Cluster | None:
    """Returns how this process finds the others, or None if it is alone.

    Raises:
      ValueError: a flag is wrong or missing.
    """
    flags = arguments.flags
    given = [name for name in FLAGS if name in flags]
    if "population" in flags and (given or "distributed" in flags):
        raise ValueError(f"{ONE_PROCESS}: leave --{[*given, 'distributed'][0]} away")
    if "distributed" in flags:
        if given:
            raise ValueError(
                f"--distributed finds the others by itself: leave --{given[0]} away, "
                "or leave --distributed away"
            )
        return Cluster()
    if not given:
        return None
    for name in FLAGS:
        if name not in flags:
            raise ValueError(
                f"--{name} is missing: give --coordinator_address, --num_processes and "
                "--process_id together, or none of them"
            )
    address = str(flags["coordinator_address"])
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise ValueError(
            f"--coordinator_address {address}: give HOST:PORT of process 0, such as "
            "10.0.0.1:1234"
        )
    number = whole_number(arguments, "num_processes", 1)
    text = str(flags["process_id"])
    if not (text.isdecimal() and int(text) < number):
        raise ValueError(
            f"--process_id {text}: give each of the {number} processes another number, "
            f"from 0 to {number - 1}"
        )
    return Cluster(address, number, int(text))


def run_alike(arguments: Arguments, command: Callable[[], int]) -> int:
    """Runs a command in every process, if all have the same; ends when all are done."""
    flags = {k: v for k, v in arguments.flags.items() if k != "process_id"}
    libraries = {k: v for k, v in folders.versions().items() if k != "python"}
    processes.check_same("arguments", [flags, arguments.overrides])
    processes.check_same("versions", libraries)
    code = command()
    if not code:
        processes.least(0)
    return code


def say(*lines: str) -> None:
    """Prints lines, in the first process only."""
    if processes.is_first():
        print(*lines, sep="\n", flush=True)
