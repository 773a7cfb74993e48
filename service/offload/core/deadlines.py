"""A coarse timer wheel: which items (jobs, slots) are due when.

It holds one instant for each item, in buckets of `TICK_S`, and runs no timer: the driver of the scheduler looks at the
alarm and calls at that instant. No item is due early, and each at most one tick late.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T", bound=Hashable)

# A limit is answered within 10 ms; a fifth of that for the wheel, the rest for the event loop and the way back.
TICK_S: Final = 0.002
# This many stale ticks are kept before they are removed: rarely enough to cost nothing, and a few KB.
_STALE_TICKS: Final = 64


class Alarm:
    """When to call at the latest: `at` is not later than the next item of all wheels that share the alarm.

    Removing an item does not postpone it; a call that finds nothing due sets it again. It is a plain attribute because
    it is read after every event.
    """

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = math.inf


class Deadlines(Generic[T]):
    """Adding and removing take constant time on average, however many items there are.

    A new item goes into a bucket only when the alarm goes off: most are gone by then, and cost one store each. A job
    with a limit of a day that ends in a millisecond leaves at most a stale tick in the heap. When most ticks are stale
    they are removed, so memory depends on the present items only.
    """

    def __init__(self, alarm: Alarm) -> None:
        self._alarm = alarm
        self._new: dict[T, int] = {}  # the ticks of new items, which are not in _tick_of
        self._buckets: dict[int, dict[T, None]] = {}  # without empty ones
        self._ticks: list[int] = []  # a heap with every key of _buckets, and stale ones
        self._tick_of: dict[T, int] = {}

    def __len__(self) -> int:
        return len(self._new) + len(self._tick_of)

    def __contains__(self, item: T) -> bool:
        return item in self._new or item in self._tick_of

    def set(self, item: T, instant: float) -> None:
        """Make the item due at `instant` (monotonic, seconds), instead of an earlier entry."""
        if item in self._tick_of:
            self._take_out(item)
        self._new[item] = tick = int(instant / TICK_S) + 1
        due_at = tick * TICK_S
        self._alarm.at = min(self._alarm.at, due_at)

    def discard(self, item: T) -> None:
        """Remove the item, if it is there."""
        if self._new.pop(item, None) is None and item in self._tick_of:
            self._take_out(item)

    def pop_due(self, now: float) -> list[T]:
        """Remove and return the items that are due at `now`, earliest first."""
        self._put_in_new()
        due: list[T] = []
        while self._ticks and self._ticks[0] * TICK_S <= now:
            due += self._buckets.pop(heapq.heappop(self._ticks), ())
        for item in due:
            del self._tick_of[item]
        return due

    def next_instant(self) -> float | None:
        """Returns when the next item is due, None without items. Drops stale ticks on the way."""
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
