"""From a sweep's table to who was best, and how sure that is."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

LAST_FRACTION = 0.1  # of the iterations, that the final return is the mean over
CONFIDENCE = 0.95
NUM_RESAMPLES = 10_000


class Final(NamedTuple):
    """How one member ended."""

    member: int
    setting: int
    seed: int
    iterations: int
    final_return: float  # NaN: no episode had ended
    failed_at: int | None  # the first iteration with something not finite


class Score(NamedTuple):
    """How a setting did, over its seeds."""

    setting: int
    iterations: int
    returns: tuple[float, ...]  # of the members that did not fail
    failed: int  # members

    @property
    def final_return(self) -> float:
        """The mean; NaN: there is none."""
        known = [x for x in self.returns if not math.isnan(x)]
        return float(np.mean(known)) if known else math.nan


def finals(table: Any) -> list[Final]:
    """Returns how each member of a table ended."""
    columns = ("member", "setting", "seed", "iteration", "episode_return", "finite")
    data = {name: table[name].to_numpy() for name in columns}
    starts = np.unique(data["member"], return_index=True)[1]
    ends = [*starts[1:], len(data["member"])]
    return [
        _final({name: x[start:end] for name, x in data.items()})
        for start, end in zip(starts, ends, strict=True)
    ]


def curves(table: Any) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Returns {setting: (env_steps [I], episode_return [seeds, I])} of a table."""
    columns = ("member", "setting", "env_steps", "episode_return")
    data = {name: table[name].to_numpy() for name in columns}
    result = {}
    for setting in np.unique(data["setting"]).tolist():
        rows = data["setting"] == setting
        num_members = len(np.unique(data["member"][rows]))
        returns = data["episode_return"][rows].reshape(num_members, -1)
        result[setting] = data["env_steps"][rows][: returns.shape[1]], returns
    return result


def final_return(episode_return: np.ndarray) -> float:
    """Returns the mean over the last tenth of the iterations, at least over one."""
    count = max(round(LAST_FRACTION * len(episode_return)), 1)
    last = episode_return[-count:]
    known = last[np.isfinite(last)]
    return float(known.mean()) if len(known) else math.nan


def rank(ended: Sequence[Final], settings: Sequence[int]) -> list[Score]:
    """Returns the scores of settings, the best first.

    Those of which a seed failed come last, and before them those without a finished
    episode.
    """
    members: dict[int, list[Final]] = {setting: [] for setting in settings}
    for final in ended:
        if final.setting in members:
            members[final.setting].append(final)
    scores = [_score(setting, group) for setting, group in members.items()]

    def order(score: Score) -> tuple[bool, bool, float]:
        mean = score.final_return
        return score.failed > 0, math.isnan(mean), 0.0 if math.isnan(mean) else -mean

    return sorted(scores, key=order)


def summarize(
    ended: Sequence[Final],
    settings: Sequence[Mapping[str, Any]],
    planned: Sequence[int],
) -> list[dict[str, Any]]:
    """Returns a row per setting, the best first.

    Settings that were stopped early come after those that were not, the longest first.

    Args:
      ended: how each member ended.
      settings: {path: value} of each.
      planned: iterations of each.
    """
    ranked = rank(ended, range(len(settings)))
    ranked.sort(key=lambda score: planned[score.setting] - score.iterations)
    return [
        {
            "rank": place,
            "setting": score.setting,
            **{k: _text(v) for k, v in settings[score.setting].items()},
            "iterations": score.iterations,
            "seeds": len(score.returns) + score.failed,
            "failed": score.failed,
            "final_return": score.final_return,
            **interquartile(score.returns),
        }
        for place, score in enumerate(ranked, start=1)
    ]


def interquartile(returns: Sequence[float]) -> dict[str, float]:
    """Returns the interquartile mean and its 95 % percentile-bootstrap interval.

    With fewer than two numbers there is no interval, NaN.

    Source: Agarwal et al. 2021, section 4, arXiv:2108.13264. Differs: one task, so that
    there is nothing to stratify.
    """
    from scipy import stats

    known = np.array([x for x in returns if not math.isnan(x)])
    if len(known) == 0:
        return {"iqm": math.nan, "iqm_low": math.nan, "iqm_high": math.nan}

    def iqm(x: np.ndarray, axis: int = -1) -> Any:
        return stats.trim_mean(x, 0.25, axis=axis)

    low = high = math.nan
    if len(known) > 1:
        interval = stats.bootstrap(
            (known,),
            iqm,
            n_resamples=NUM_RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
    return {"iqm": float(iqm(known)), "iqm_low": low, "iqm_high": high}


def _final(data: Mapping[str, np.ndarray]) -> Final:
    bad = np.flatnonzero(~data["finite"].astype(bool))
    return Final(
        member=int(data["member"][0]),
        setting=int(data["setting"][0]),
        seed=int(data["seed"][0]),
        iterations=len(data["iteration"]),
        final_return=final_return(data["episode_return"]),
        failed_at=int(data["iteration"][bad[0]]) if len(bad) else None,
    )


def _score(setting: int, members: Sequence[Final]) -> Score:
    return Score(
        setting=setting,
        iterations=max(final.iterations for final in members),
        returns=tuple(f.final_return for f in members if f.failed_at is None),
        failed=sum(final.failed_at is not None for final in members),
    )


def _text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value
