"""What is due when: a coarse timer wheel.

Lives here: the bookkeeping of one instant for each item (a job, a slot), in buckets of `TICK_S`.  It keeps no timer:
whoever drives the scheduler looks at the alarm and comes back then.  Nothing is ever due early, and at most one tick
late.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T", bound=Hashable)

# A limit is answered within 10 ms; a fifth of that for the wheel, the rest for the loop and the way back.
TICK_S: Final = 0.002
# So many ticks without an item are kept before they are cleared away: rarely enough to cost nothing, and a few KB.
_STALE_TICKS: Final = 64


class Alarm:
    """When to come back at the latest: `at` is no later than what is due next, of all that share it.

    What is due no more does not put it off: whoever comes back in vain sets it anew.  To look at it costs nothing, and
    that is done after every event.
    """

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = math.inf


class Deadlines(Generic[T]):
    """Adding and removing take constant time on average, however many items wait.

    An item that comes is put into no bucket before the alarm goes off: most are gone by then, and cost a store each.
    A job with a limit of a day, done in a millisecond, leaves at most a stale tick in the heap.  When most ticks are
    stale they are cleared away, so that memory follows what waits and not what has been.
    """

    def __init__(self, alarm: Alarm) -> None:
        self._alarm = alarm
        self._new: dict[T, int] = {}  # the tick of each that came since; none of them is in _tick_of
        self._buckets: dict[int, dict[T, None]] = {}  # none of them is empty
        self._ticks: list[int] = []  # a heap; has every key of _buckets, and stale ones
        self._tick_of: dict[T, int] = {}

    def __len__(self) -> int:
        return len(self._new) + len(self._tick_of)

    def __contains__(self, item: T) -> bool:
        return item in self._new or item in self._tick_of

    def set(self, item: T, instant: float) -> None:
        """The job is due at `instant` (monotonic, seconds); replaces an earlier entry."""
        if item in self._tick_of:
            self._take_out(item)
        self._new[item] = tick = int(instant / TICK_S) + 1
        due_at = tick * TICK_S
        self._alarm.at = min(self._alarm.at, due_at)

    def discard(self, item: T) -> None:
        """The job is due no more; nothing happens if it never was."""
        if self._new.pop(item, None) is None and item in self._tick_of:
            self._take_out(item)

    def pop_due(self, now: float) -> list[T]:
        """Takes out and returns what is due at `now`, earliest first."""
        self._put_in_new()
        due: list[T] = []
        while self._ticks and self._ticks[0] * TICK_S <= now:
            due += self._buckets.pop(heapq.heappop(self._ticks), ())
        for item in due:
            del self._tick_of[item]
        return due

    def next_instant(self) -> float | None:
        """When to come back, None when nothing is due ever.  Drops stale ticks on the way."""
        self._put_in_new()
        while self._ticks:
            tick = self._ticks[0]
            if tick in self._buckets:
                return tick * TICK_S
            heapq.heappop(self._ticks)
        return None

    def _put_in_new(self) -> None:
        new, self._new = self._new, {}
        self._tick_of |= new
        for item, tick in new.items():
            bucket = self._buckets.get(tick)
            if bucket is None:
                self._buckets[tick] = {item: None}
                heapq.heappush(self._ticks, tick)
            else:
                bucket[item] = None

    def _take_out(self, item: T) -> None:
        tick = self._tick_of.pop(item)
        bucket = self._buckets[tick]
        del bucket[item]
        if not bucket:
            del self._buckets[tick]
            if len(self._ticks) > 2 * len(self._buckets) + _STALE_TICKS:
                self._ticks = sorted(self._buckets)  # a sorted list is a heap
