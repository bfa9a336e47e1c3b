"""How the processes that run one program meet, and how they part."""

import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax

PARTING_SECONDS = 10  # that a process which fails waits for others to fail as well


class Cluster(NamedTuple):
    """How processes find each other; three times None: jax detects it."""

    coordinator_address: str | None = None  # HOST:PORT of process 0
    num_processes: int | None = None
    process_id: int | None = None
    local_device_ids: int | None = None  # the GPU of this process; None: all it sees


@contextmanager
def joined(cluster: Cluster) -> Iterator[None]:
    """Joins the processes of a cluster, and leaves them at the end of a script.

    What is inside ends with `SystemExit`. A process that fails alone does not wait for
    the others, which are then told by their next exchange: it waits PARTING_SECONDS
    for those that fail with it, and ends.

    Raises:
      ValueError: no cluster was detected, or it could not be joined.
    """
    _join(cluster)
    code: Any = 0
    try:
        yield
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    _leave(code)


def _join(cluster: Cluster) -> None:
    # The preemption service swallows SIGTERM, and a sweep may end at any time.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        if cluster == Cluster():
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(*cluster, cluster_detection_method="deactivate")
    except (ValueError, RuntimeError) as error:
        if cluster == Cluster():
            raise ValueError(
                f"--distributed: jax could not join a cluster ({error}): start it with "
                "Slurm, Open MPI, Kubernetes or on a Cloud TPU, or give "
                "--coordinator_address, --num_processes and --process_id"
            ) from error
        raise ValueError(
            f"--coordinator_address {cluster.coordinator_address}: process "
            f"{cluster.process_id} could not join the others ({error}): give a free "
            "port of the machine of process 0"
        ) from error


def _leave(code: Any) -> None:
    """Ends this process; waits for the others, long if all is well."""
    sys.stdout.flush()
    if code:
        parting = threading.Thread(target=jax.distributed.shutdown, daemon=True)
        parting.start()
        parting.join(PARTING_SECONDS)
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)  # jax would wait at exit
    jax.distributed.shutdown()
