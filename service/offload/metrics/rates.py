"""How many jobs end in a second, over the last 1, 10 and 60 seconds.

Lives here: a ring of ticks and the divisions; no clock and no timer.  Whoever owns the loop calls `tick` a few times a
second, the snapshot asks for the summary.  A job counts when it is over, however it ended; refused jobs do not count.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import Final, NamedTuple

WINDOWS_S: Final = (1, 10, 60)

# Ticks that come faster than this only renew the newest total: it bounds the ring to 60 s / 50 ms = 1,200 ticks.
_RESOLUTION_S: Final = 0.05


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
        while self._ticks[1].at <= now - WINDOWS_S[-1]:
            self._ticks.popleft()

    def summary(self, now: float) -> dict[str, float]:
        """`jobs_per_s_1s`, `jobs_per_s_10s`, `jobs_per_s_60s`."""
        return {f"jobs_per_s_{window_s}s": round(self._per_s(now, window_s), 3) for window_s in WINDOWS_S}

    def _per_s(self, now: float, window_s: int) -> float:
        """Since the last tick before the window began.  A service younger than the window: since it began."""
        place = bisect_right(self._ticks, now - window_s, key=lambda tick: tick.at)
        since = self._ticks[max(place - 1, 0)]
        elapsed_s = now - since.at
        return (self._ended_total - since.ended_total) / elapsed_s if elapsed_s > 0 else 0.0
