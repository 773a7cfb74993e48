"""Looks at worker processes in a thread: their memory, and whether they are stopped.

One thread for all workers reads `/proc` and reports to the event loop; it decides nothing. Each worker has a `Watched`
record: the event loop writes what to look for, the thread what it saw.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from offload.processes.proctree import all_processes, descendants, last_pid, read, rss_bytes

logger: Final = logging.getLogger("offload.engine")

# A job with a memory limit is sampled at least every 20 ms, from the start of one look to the start of the next; the
# difference is for waking up. A look that takes longer than that leaves the rest of the machine this pause.
_SAMPLE_S: Final = 0.016
_LEAST_PAUSE_S: Final = 0.003
# An idle worker that was stopped (SIGSTOP) is noticed within this time.
_GLANCE_S: Final = 0.25


@dataclass(slots=True)
class Watched:
    """One worker. `limit_bytes` is the memory limit of the running job, None if it has none.

    `must_answer`: the worker is starting, idle, or has not begun the first of its jobs, so it must not be stopped.
    `on_halted` is called once on the event loop when the process is stopped or has ended.
    `rss_bytes` is the worker's own resident memory, `peak_bytes` the highest sum over its process tree during this job.
    """

    pid: int
    number: int = 0
    limit_bytes: int | None = None
    must_answer: Callable[[], bool] = lambda: True
    on_halted: Callable[[], None] | None = None
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
    """Called on the event loop's thread."""

    def on_stopped(self, watched: Watched) -> None: ...
    def on_over_memory(self, watched: Watched, number: int) -> None: ...


class ForkserverOwner(Protocol):
    """As much of a `Launcher` as the watch needs to replace a stopped forkserver."""

    @property
    def forkserver_pid(self) -> int | None: ...
    def kill_forkserver(self) -> None: ...


class Rhythm:
    """Decides when to look. Instants are passed in, in seconds."""

    def __init__(self) -> None:
        self._began_at = 0.0
        self._glance_at = 0.0

    def begin(self, now: float) -> bool:
        """A look begins; returns whether to glance at all workers as well."""
        self._began_at = now
        is_glance = now >= self._glance_at
        if is_glance:
            self._glance_at = now + _GLANCE_S
        return is_glance

    def pause_s(self, now: float, *, is_close: bool, is_waiting: bool = False) -> float:
        """Seconds from the end of that look to the next. `is_close`: a job with a memory limit runs. `is_waiting`:
        something is awaited that only a look can show."""
        if is_waiting:
            return _LEAST_PAUSE_S
        next_at = min(self._glance_at, self._began_at + _SAMPLE_S) if is_close else self._glance_at
        return max(next_at - now, _LEAST_PAUSE_S)


class Watch:
    """Owns the thread, which calls `records` for each look, and `is_waiting` after it (see `Rhythm.pause_s`)."""

    def __init__(
        self,
        records: Callable[[], Iterable[Watched]],
        events: WatchEvents,
        forkserver: ForkserverOwner,
        *,
        is_waiting: Callable[[], bool] = lambda: False,
    ) -> None:
        self._records = records
        self._events = events
        self._forkserver = forkserver
        self._is_waiting = is_waiting
        self._loop = asyncio.get_running_loop()
        self._wake = threading.Event()
        self._is_closing = False
        self._last_pid = b""
        self._trees: dict[int, set[int]] = {}
        self._thread = threading.Thread(target=self._run, name="offload-watch", daemon=True)
        self._thread.start()

    def look_closely(self) -> None:
        """Look now instead of at the next glance."""
        self._wake.set()

    async def close(self) -> None:
        """End the thread. May be called twice."""
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
            is_waiting = self._await_halts(records) or self._is_waiting()
            self._wake.wait(rhythm.pause_s(time.monotonic(), is_close=bool(limited), is_waiting=is_waiting))
            self._wake.clear()

    def _glance(self, records: list[Watched]) -> None:
        for record in records:
            must_answer = record.must_answer()
            info = read(record.pid)
            record.rss_bytes = 0 if info is None else info.rss_bytes
            # Checked twice: between the check and the look it may have begun a job, and been stopped while busy.
            if info is not None and info.is_stopped and must_answer and record.must_answer():
                self._report(self._events.on_stopped, record)
        forkserver = self._forkserver.forkserver_pid
        info = None if forkserver is None else read(forkserver)
        if info is not None and info.is_stopped:
            self._report(self._replace_forkserver, info.pid)

    def _replace_forkserver(self, pid: int) -> None:
        """Every start would wait for a stopped one. The next start brings up another."""
        if self._forkserver.forkserver_pid == pid:
            logger.warning("forkserver was stopped from outside", extra={"fields": {"pid": pid}})
            self._forkserver.kill_forkserver()

    def _await_halts(self, records: list[Watched]) -> bool:
        """Returns whether a process that is to be stopped still runs.

        waitid(2) would report the stop of a child; most workers are children of the forkserver.
        """
        is_waiting = False
        for record in records:
            on_halted = record.on_halted
            if on_halted is None:
                continue
            info = read(record.pid)
            if info is None or info.is_stopped or info.is_dead:
                record.on_halted = None
                self._report(on_halted)
            else:
                is_waiting = True
        return is_waiting

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
