"""Means of what a simulator's task logs, every value counted once."""

from collections.abc import Mapping
from typing import Any

from ppo_jax.envs.dlpack import Tensor

MAX_LOG_ENTRIES = 1000  # kept on the device before they are added up


class EpisodeLog:
    """Means of what a task puts into extras["log"], every value counted once.

    Isaac Lab writes most entries where episodes end, as means over these, and leaves
    them there; mjlab empties it in every step. A value is new if it or its dictionary
    is another object than in the step before. It counts as often as episodes ended in
    its step, and once if none did. Tags may appear at any time, which is why this is no
    part of `TimeStep`: the arrays of a compiled program are fixed before the first
    step.
    """

    def __init__(self, log: Mapping[str, Any] | None = None) -> None:
        """Starts empty; `log` is what is there already and is not counted."""
        self._log = log
        self._values: dict[str, Any] = dict(log or {})
        self._entries: list[tuple[list[str], Tensor, Tensor]] = []  # tags, values, ends
        self._totals: dict[str, list[float]] = {}  # {tag: [weighted sum, weight]}

    def add(self, log: Mapping[str, Any] | None, done: Tensor) -> None:
        """Notes what is new after a step; copies it, and waits for no GPU."""
        import torch

        is_new = log is not self._log
        log_now = dict(log or {})
        new = {
            tag: value
            for tag, value in log_now.items()
            if is_new or self._values.get(tag) is not value
        }
        self._log, self._values = log, log_now
        if not new:
            return
        values = torch.stack([_scalar(x, done.device) for x in new.values()])
        self._entries.append((list(new), values, done.sum()))
        if len(self._entries) == MAX_LOG_ENTRIES:
            self._add_up()

    def drain(self) -> dict[str, float]:
        """Returns {tag: mean} since the last call, and forgets it."""
        self._add_up()
        totals, self._totals = self._totals, {}
        return {tag: total / weight for tag, (total, weight) in totals.items()}

    def _add_up(self) -> None:
        """Adds the entries to the totals; copies them from the device all at once."""
        import torch

        if not self._entries:
            return
        tags, values, ends = zip(*self._entries, strict=True)
        self._entries = []
        numbers = iter(torch.cat(values).tolist())
        for names, num_ended in zip(tags, torch.stack(ends).tolist(), strict=True):
            weight = max(num_ended, 1)
            for tag in names:
                so_far = self._totals.setdefault(tag, [0.0, 0.0])
                so_far[0] += weight * next(numbers)
                so_far[1] += weight


def _scalar(value: Any, device: Any) -> Tensor:
    """Returns a logged number, or the mean of logged numbers, as [] float32."""
    import torch

    tensor = torch.as_tensor(value, dtype=torch.float32, device=device)
    return tensor.mean() if tensor.ndim else tensor
