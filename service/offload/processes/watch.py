"""Looking at the workers from outside, in a thread of its own: memory, and workers that somebody stopped.

Lives here: one thread for all lanes that reads `/proc` and reports to the event loop.  It kills nothing and decides
nothing.  Each lane gives it one `Watched` record: the loop writes what is to be looked at, the thread what it saw.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from offload.processes.proctree import all_processes, descendants, last_pid, read, rss_bytes

# A job with a memory limit is sampled at least every 20 ms, from the begin of one look to that of the next; the rest of
# the time is for waking up.  Where a look takes longer than all that, the others on the machine get this pause.
_SAMPLE_S: Final = 0.016
_LEAST_PAUSE_S: Final = 0.003
# An idle worker that was stopped (SIGSTOP) is noticed within this time.
_GLANCE_S: Final = 0.25


@dataclass(slots=True)
class Watched:
    """One worker.  `limit_bytes` is the memory limit of the job that runs, None while none with a limit does.

    `must_answer`: it is starting, idle, or has not begun the first of its jobs, so it must not be stopped.
    `rss_bytes` is the worker's own resident memory, `peak_bytes` the highest sum over its tree during this job.
    """

    pid: int
    number: int = 0
    limit_bytes: int | None = None
    must_answer: Callable[[], bool] = lambda: True
    rss_bytes: int = 0
    peak_bytes: int = 0

    def begin(self, number: int, limit_bytes: int) -> None:
        """A job with a memory limit has begun."""
        self.number = number
        self.peak_bytes = 0
        self.limit_bytes = limit_bytes

    def end(self) -> None:
        self.limit_bytes = None


class WatchEvents(Protocol):
    """Whom the watch reports to, on the event loop's thread."""

    def on_stopped(self, watched: Watched) -> None: ...
    def on_over_memory(self, watched: Watched, number: int) -> None: ...


class Rhythm:
    """When to look.  Pure: instants are passed in, in seconds."""

    def __init__(self) -> None:
        self._began_at = 0.0
        self._glance_at = 0.0

    def begin(self, now: float) -> bool:
        """A look begins; whether it is to be a glance at all workers as well."""
        self._began_at = now
        is_glance = now >= self._glance_at
        if is_glance:
            self._glance_at = now + _GLANCE_S
        return is_glance

    def pause_s(self, now: float, *, is_close: bool) -> float:
        """How long to wait when that look is over.  `is_close`: a job with a memory limit runs."""
        next_at = min(self._glance_at, self._began_at + _SAMPLE_S) if is_close else self._glance_at
        return max(next_at - now, _LEAST_PAUSE_S)


class Watch:
    """The thread.  `records` is asked anew for each look."""

    def __init__(self, records: Callable[[], Iterable[Watched]], events: WatchEvents) -> None:
        self._records = records
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._wake = threading.Event()
        self._is_closing = False
        self._last_pid = b""
        self._trees: dict[int, set[int]] = {}
        self._thread = threading.Thread(target=self._run, name="offload-watch", daemon=True)
        self._thread.start()

    def look_closely(self) -> None:
        """A job with a memory limit has begun: do not wait for the next glance."""
        self._wake.set()

    async def close(self) -> None:
        """Ends the thread.  May be called twice."""
        self._is_closing = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        rhythm = Rhythm()
        while not self._is_closing:
            is_glance = rhythm.begin(time.monotonic())
            records = list(self._records())
            if is_glance:
                self._glance(records)
            limited = [record for record in records if record.limit_bytes is not None]
            if limited:
                self._sample(limited)
            self._wake.wait(rhythm.pause_s(time.monotonic(), is_close=bool(limited)))
            self._wake.clear()

    def _glance(self, records: list[Watched]) -> None:
        for record in records:
            must_answer = record.must_answer()
            info = read(record.pid)
            record.rss_bytes = 0 if info is None else info.rss_bytes
            # Asked twice: it may have begun a job between the question and the look, and be stopped as a busy one.
            if info is not None and info.is_stopped and must_answer and record.must_answer():
                self._report(self._events.on_stopped, record)

    def _sample(self, limited: list[Watched]) -> None:
        newest = last_pid()
        if newest != self._last_pid or any(record.pid not in self._trees for record in limited):
            processes = all_processes()
            self._trees = {record.pid: descendants({record.pid}, processes) for record in limited}
            self._last_pid = newest
        for record in limited:
            number, limit_bytes = record.number, record.limit_bytes
            total = rss_bytes(record.pid) + sum(map(rss_bytes, self._trees[record.pid]))
            record.peak_bytes = max(record.peak_bytes, total)
            if limit_bytes is not None and total > limit_bytes and record.number == number:
                self._report(self._events.on_over_memory, record, number)

    def _report(self, event: Callable[..., None], *facts: object) -> None:
        if not self._is_closing:
            self._loop.call_soon_threadsafe(event, *facts)
