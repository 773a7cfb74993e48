"""Logs what a worker prints, line by line, and the tracebacks of its jobs.

The pipe that is a worker's stdout and stderr is always emptied, so that printing never blocks a task. What arrives
faster than a log can be read is counted and dropped.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Final

from offload.core.job import Job
from offload.core.request import JobHead
from offload.processes.lines import LineSplitter, Piece

logger: Final = logging.getLogger("offload.output")

_READ_BYTES: Final = 64 * 1024
# A person reads a few lines a second, a log collector a few thousand; more is noise.
_LINES_PER_S: Final = 500
_BURST_LINES: Final = 1000
_REPORT_DROPPED_EVERY_S: Final = 1.0
# Reads at most at the end of a job or worker: a pipe holds 64 KiB unless it was enlarged.
_MAX_READS: Final = 16


class OutputReader:
    """Reads one pipe line by line, from `open` on. Made on the event loop's thread; owns the descriptor.

    `lane` is that of the worker, None for the driver of a cluster. `has_news`: `end_of_job` needs to be called.
    """

    def __init__(self, descriptor: int, *, lane: int | None, pid: int) -> None:
        self._descriptor = descriptor
        self._fields: dict[str, object] = {"pid": pid} if lane is None else {"lane": lane, "pid": pid}
        self._printing: tuple[str, str, JobHead] | None = None
        self._lines = LineSplitter()
        self._timer: asyncio.TimerHandle | None = None  # only while the state of a bar waits to be logged
        self._allowance = float(_BURST_LINES)
        self._allowed_at = time.monotonic()
        self._dropped = 0
        self._report_at = 0.0
        self._has_read = False
        self.has_news = False
        os.set_blocking(descriptor, False)
        self._loop = asyncio.get_running_loop()

    def open(self) -> None:
        """Start reading. Raises OSError."""
        self._loop.add_reader(self._descriptor, self._read_once)

    def belongs_to(self, job: Job | None) -> None:
        """Attribute what is read from now on to this job; None: it is unknown which job prints."""
        # Not the job itself, whose body and result would stay in memory until the next one.
        self._printing = None if job is None else (job.id, job.limits.name, job.request.terms.head)

    def log_raised(self, job: Job, traceback: bytes) -> None:
        """Log the traceback of the exception that ended a job."""
        lines = traceback.splitlines()
        may_log = self._may_log(len(lines))
        for line in lines[:may_log]:
            fields = self._fields_of(job.id, job.limits.name, job.request.terms.head)
            logger.info("task raised", extra={"fields": {**fields, "line": Piece().followed_by(line).text()}})
        self.has_news = True

    def read_pending(self) -> None:
        """Read what is in the pipe now."""
        for _ in range(_MAX_READS):
            if not self._read_once():
                return

    def end_of_job(self) -> bool:
        """Log a last line without a newline, or the last state of a bar.

        Returns whether anything was printed since the last call.
        """
        has_read, self._has_read = self._has_read, False
        self.has_news = False
        self._stop_timer()
        self._log(self._lines.end())
        if self._dropped:
            self._report_dropped()
        return has_read

    def close(self) -> None:
        """Read what is left and close the pipe. May be called twice."""
        if self._descriptor < 0:
            return
        self.read_pending()
        self.end_of_job()
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1

    def _read_once(self) -> bool:
        """Read once; return False if there was nothing to read."""
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._descriptor)
            return False
        self._take(data)
        return True

    def _take(self, data: bytes) -> None:
        self._has_read = self.has_news = True
        now = time.monotonic()
        self._log(self._lines.feed(data, now, self._may_log))
        self._follow_bar(now)

    def _follow_bar(self, now: float) -> None:
        """Log the state of a bar if it is time to, or see to it later: the bar may stay as it is."""
        wait_s = self._lines.wait_s(now)
        if wait_s is None:
            return
        if wait_s == 0:
            self._log([self._lines.take_state(now)])
        elif self._timer is None:
            self._timer = self._loop.call_later(wait_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._follow_bar(time.monotonic())

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _may_log(self, lines: int) -> int:
        """Returns how many of `lines` lines may be logged now, and counts the others."""
        now = time.monotonic()
        self._allowance = min(_BURST_LINES, self._allowance + (now - self._allowed_at) * _LINES_PER_S)
        self._allowed_at = now
        may_log = min(lines, int(self._allowance))
        self._allowance -= may_log
        if self._dropped and now >= self._report_at:
            self._report_dropped()
            self._report_at = now + _REPORT_DROPPED_EVERY_S
        self._dropped += lines - may_log
        return may_log

    def _log(self, lines: list[str]) -> None:
        for line in lines:
            logger.info("task printed", extra={"fields": {**self._printing_fields(), "line": line}})

    def _report_dropped(self) -> None:
        fields = {**self._printing_fields(), "lines": self._dropped, "limit_per_s": _LINES_PER_S}
        self._dropped = 0
        logger.warning("task printed too much, lines were dropped", extra={"fields": fields})

    def _printing_fields(self) -> dict[str, object]:
        """Returns the fields of a line. Most jobs print nothing, so this is not done when a job begins."""
        return self._fields if self._printing is None else self._fields_of(*self._printing)

    def _fields_of(self, job_id: str, task: str, head: JobHead) -> dict[str, object]:
        return {"job_id": job_id, "task": task, **self._fields, **head.labels()}
