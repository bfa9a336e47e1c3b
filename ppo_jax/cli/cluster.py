"""Several processes of one command: how a command line says so; all do the same."""

import os
import sys
from collections.abc import Callable
from functools import partial

from ppo_jax.cli import entry
from ppo_jax.cli.command_line import Arguments, whole_number
from ppo_jax.cli.workers import FLAGS, WORKER
from ppo_jax.runs import folders, processes
from ppo_jax.runs.cluster import Cluster, joined

TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # its variables
SIGNALLED = 128  # codes above it are of signals, which all processes have agreed on
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
        return _of_torchrun() if all(x in os.environ for x in TORCHRUN) else Cluster()
    if not given:
        return None
    if given == ["num_processes"] and os.environ.get(WORKER):
        return _of_torchrun()
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


def run(arguments: Arguments, command: Callable[[], int]) -> int:
    """Runs a command in this process, alone or as one of the several that it is of."""
    others = cluster_of(arguments)
    if others is None:
        return command()
    with joined(others):
        entry.run_script(partial(run_alike, arguments, command))
    return 0


def _of_torchrun() -> Cluster:
    """Returns the cluster that torchrun's variables describe.

    MASTER_PORT is torchrun's own: processes of JAX meet at the port after it.
    """
    rank, count, host, port = (os.environ[name] for name in TORCHRUN)
    own = os.environ.get("LOCAL_RANK")
    try:
        numbers = int(count), int(rank), None if own is None else int(own)
        return Cluster(f"{host}:{int(port) + 1}", *numbers)
    except ValueError:
        said = ", ".join(f"{name}={os.environ[name]}" for name in TORCHRUN)
        raise ValueError(
            f"--distributed: {said} are not what torchrun sets: give whole numbers, or "
            "start the processes with torchrun"
        ) from None


def run_alike(arguments: Arguments, command: Callable[[], int]) -> int:
    """Runs a command in every process, if all have the same; ends when all are done."""
    flags = {k: v for k, v in arguments.flags.items() if k != "process_id"}
    libraries = {k: v for k, v in folders.versions().items() if k != "python"}
    if not processes.is_first():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  until the process ends
    processes.check_same("arguments", [flags, arguments.overrides])
    processes.check_same("versions", libraries)
    code = command()
    if not code or code > SIGNALLED:  # the first may still have something to do
        processes.least(0)
    return code


def say(*lines: str) -> None:
    """Prints lines, in the first process only."""
    if processes.is_first():
        print(*lines, sep="\n", flush=True)
