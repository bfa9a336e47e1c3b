"""What a run tells those who watch it: how far it is, how it ended, what was lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ppo_jax.loops.trail import Trail
from ppo_jax.runs.finite import NotFinite
from ppo_jax.types import RunState


class Progress(NamedTuple):
    """What is known after an iteration."""

    iteration: int  # done in total
    max_iterations: int
    env_steps: int  # in total
    seconds: float  # of this process, in the loop
    seconds_left: float  # if it goes on as it did
    scalars: dict[str, float]


class Outcome(NamedTuple):
    """How a run ended."""

    run: RunState
    folder: Path
    progress: Progress
    stopped_by: str | None  # name of a signal


class Callbacks(NamedTuple):
    """What `runner.run_training` calls, and when; without an entry, nothing."""

    # Once, before the first iteration.
    on_compiled: Callable[[], None] = lambda: None
    # After every iteration.
    on_iteration: Callable[[Progress], None] = lambda progress: None
    # After every iteration too, with its number and what was learned; what is kept of
    # that has to be a copy.
    on_learned: Callable[[int, Any], None] = lambda done, learned: None
    # With the signal's name after the iteration in which it came, before the last
    # checkpoint is written. A second signal acts as usual.
    on_signal: Callable[[str], None] = lambda name: None
    # With a sentence on each thing that was lost or mended, or traced.
    on_note: Callable[[str], None] = lambda sentence: None
    # With what was not finite of some environments, the trails of the last two
    # iterations, if they are kept, and the run after them. Returns a sentence, or
    # nothing, that the error goes on with.
    on_nan: Callable[[NotFinite, list[Trail], RunState], str] = lambda *what: ""
    # At the end, while loggers still listen: a film that is made in the folder goes to
    # them.
    on_end: Callable[[Outcome], None] = lambda outcome: None
