"""How many jobs end in a second, over the last 1, 10 and 60 seconds.

Lives here: a ring of ticks and the divisions; no clock and no timer.  Whoever owns the loop calls `tick` a few times a
second, the snapshot asks for the summary.  A job counts when it is over, however it ended; refused jobs do not count.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

_LONGEST_S: Final = 60

# Ticks that come faster than this only renew the newest total: it bounds the ring to 60 s / 50 ms = 1,200 ticks.
_RESOLUTION_S: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class RateSummary:
    """Jobs that ended, a second, over each window."""

    jobs_per_s_1s: float
    jobs_per_s_10s: float
    jobs_per_s_60s: float


class _Tick(NamedTuple):
    at: float
    ended_total: int


class Rates:
    """`now` is the instant, monotonic seconds, at which counting began at zero."""

    def __init__(self, now: float) -> None:
        self._ticks = deque([_Tick(now, 0)])
        self._ended_total = 0

    def tick(self, now: float, ended_total: int) -> None:
        """So many jobs had ended at `now`."""
        self._ended_total = ended_total
        if now - self._ticks[-1].at < _RESOLUTION_S:
            return
        self._ticks.append(_Tick(now, ended_total))
        # One tick at or before the longest window's begin stays: it is what that window is measured from.
        while self._ticks[1].at <= now - _LONGEST_S:
            self._ticks.popleft()

    def summary(self, now: float) -> RateSummary:
        return RateSummary(
            jobs_per_s_1s=self._per_s(now, 1),
            jobs_per_s_10s=self._per_s(now, 10),
            jobs_per_s_60s=self._per_s(now, _LONGEST_S),
        )

    def _per_s(self, now: float, window_s: int) -> float:
        """Since the last tick before the window began.  A service younger than the window: since it began."""
        place = bisect_right(self._ticks, now - window_s, key=lambda tick: tick.at)
        since = self._ticks[max(place - 1, 0)]
        elapsed_s = now - since.at
        return round((self._ended_total - since.ended_total) / elapsed_s, 3) if elapsed_s > 0 else 0.0
