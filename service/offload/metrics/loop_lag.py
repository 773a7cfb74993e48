"""How late the event loop was of late.

Lives here: the window over the lags that somebody else measures; no clock and no timer.  Whoever owns the loop calls
`record` a few times a second, the snapshot asks for the summary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from offload.metrics.histogram import Histogram

_HALF_S: Final = 30.0
_US_PER_S: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class LagSummary:
    """Milliseconds."""

    p50: float
    p99: float
    max: float


class LoopLag:
    """The lags of the last 30 to 60 seconds.

    Two histograms take every lag, and each is emptied every 60 s, 30 s after the other: the older one is what is read.
    `now` is the instant, monotonic seconds, at which measuring began.
    """

    def __init__(self, now: float) -> None:
        self._older = Histogram.private()
        self._younger = Histogram.private()
        self._turn_at = now + _HALF_S

    def record(self, lag_s: float, now: float) -> None:
        """At `now` the loop was `lag_s` seconds late."""
        if now >= self._turn_at:
            self._turn(now)
        lag_us = int(lag_s * _US_PER_S)
        self._older.record(lag_us)
        self._younger.record(lag_us)

    def summary(self) -> LagSummary:
        lags = self._older.summary()
        return LagSummary(p50=lags.p50, p99=lags.p99, max=lags.max)

    def _turn(self, now: float) -> None:
        is_younger_stale = now >= self._turn_at + _HALF_S
        self._older = Histogram.private() if is_younger_stale else self._younger
        self._younger = Histogram.private()
        self._turn_at = now + _HALF_S
