"""A repeating timer that measures how late the event loop is, and how many jobs have ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

# Ten ticks a second notice every stall of a tenth of a second, at a cost too small to measure.
_TICK_S: Final = 0.1


class Ticker:
    """Calls `record_lag(seconds late, now)` and `tick(now)` ten times a second, from `start` to `close`."""

    def __init__(self, *, record_lag: Callable[[float, float], None], tick: Callable[[float], None]) -> None:
        self._record_lag = record_lag
        self._tick = tick
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def start(self) -> None:
        self._wait()

    def close(self) -> None:
        """May be called twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        self._due = time.monotonic() + _TICK_S
        self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._on_timer)

    def _on_timer(self) -> None:
        now = time.monotonic()
        self._record_lag(max(0.0, now - self._due), now)
        self._tick(now)
        self._wait()
