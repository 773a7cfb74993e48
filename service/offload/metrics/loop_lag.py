"""How late the event loop was in the last half minute to minute.

No clock and no timer: the caller measures the lags and passes the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from offload.metrics.histogram import Histogram

_HALF_S: Final = 30.0
_US_PER_S: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class LagSummary:
    """Lags in milliseconds."""

    p50: float
    p99: float
    max: float


class LoopLag:
    """The lags of the last 30 to 60 seconds.

    Two histograms count every lag. Each is emptied every 60 s, 30 s after the other, and the older one is read. `now`
    is the instant at which measuring begins, in monotonic seconds.
    """

    def __init__(self, now: float) -> None:
        self._older = Histogram.private()
        self._younger = Histogram.private()
        self._swap_at = now + _HALF_S

    def record(self, lag_s: float, now: float) -> None:
        """Count a lag of `lag_s` seconds at `now`."""
        if now >= self._swap_at:
            self._swap(now)
        lag_us = int(lag_s * _US_PER_S)
        self._older.record(lag_us)
        self._younger.record(lag_us)

    def summary(self) -> LagSummary:
        lags = self._older.summary()
        return LagSummary(p50=lags.p50, p99=lags.p99, max=lags.max)

    def _swap(self, now: float) -> None:
        is_younger_stale = now >= self._swap_at + _HALF_S
        self._older = Histogram.private() if is_younger_stale else self._younger
        self._younger = Histogram.private()
        self._swap_at = now + _HALF_S
