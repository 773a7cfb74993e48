"""How many jobs end in a second, over the last 1, 10 and 60 seconds.

No clock and no timer: the caller counts jobs and passes the time. Jobs with any outcome count, except rejected ones.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

_LONGEST_S: Final = 60

# Faster ticks only update the newest total, so that there are at most 60 s / 50 ms = 1,200 of them.
_RESOLUTION_S: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class RateSummary:
    """Jobs that ended per second, over each window."""

    jobs_per_s_1s: float
    jobs_per_s_10s: float
    jobs_per_s_60s: float


class _Tick(NamedTuple):
    at: float
    ended_total: int


class Rates:
    """`now` is the instant at which counting begins, in monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._ticks = deque([_Tick(now, 0)])
        self._ended_total = 0

    def tick(self, now: float, ended_total: int) -> None:
        """Record that `ended_total` jobs had ended at `now`."""
        self._ended_total = ended_total
        if now - self._ticks[-1].at < _RESOLUTION_S:
            return
        self._ticks.append(_Tick(now, ended_total))
        # One tick at or before the start of the longest window stays: the window is measured from it.
        while self._ticks[1].at <= now - _LONGEST_S:
            self._ticks.popleft()

    def summary(self, now: float) -> RateSummary:
        return RateSummary(
            jobs_per_s_1s=self._per_s(now, 1),
            jobs_per_s_10s=self._per_s(now, 10),
            jobs_per_s_60s=self._per_s(now, _LONGEST_S),
        )

    def _per_s(self, now: float, window_s: int) -> float:
        """Returns the rate since the last tick before the window, or since the beginning if that is later."""
        index = bisect_right(self._ticks, now - window_s, key=lambda tick: tick.at)
        since = self._ticks[max(index - 1, 0)]
        elapsed_s = now - since.at
        return round((self._ended_total - since.ended_total) / elapsed_s, 3) if elapsed_s > 0 else 0.0
