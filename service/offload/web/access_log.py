"""The access log: one line for each request, made at next to no cost for the event loop.

Lives here: what a line says, and the batching.  A request leaves a tuple behind; ten times a second the tuples go to
the logger "offload.access" as one record, whose message makes its lines only when somebody asks for them: the log's own
thread, not the loop.  More lines than `_MAX_BATCH_LINES` at a time are counted, not kept.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from offload.core.job import Job

logger: Final = logging.getLogger("offload.access")

_FLUSH_EVERY_S: Final = 0.1
# 20,000 lines a second: about what a machine answers at its best, and 4 MB a second of log.
_MAX_BATCH_LINES: Final = 2_000
_MS_PER_S: Final = 1e3
# Most requests have one of a few paths.
_KNOWN_TEXTS: Final = 256
# Stands in a field as it is; anything else is quoted, so that nothing sent by a caller forges fields or lines.
_BARE: Final = re.compile(r"[\x21\x23-\x3c\x3e-\x5b\x5d-\x7e]+")


class Entry(NamedTuple):
    """What is kept of a request until its line is made: no job and no body, those may be large."""

    method: str
    path: str
    status: int
    body_bytes: int
    duration_s: float
    request_id: str
    remote: str | None
    job: JobFacts | None = None

    def line(self) -> str:
        method, path, status, body_bytes, duration_s, request_id, remote, job = self
        fields = "" if job is None else job.fields()
        if request_id:
            fields += f" request_id={_quoted(request_id)}"
        if remote:
            fields += f" remote={remote}"
        return (
            f"request method={method} path={_quoted(path)} status={status} bytes={body_bytes} "
            f"duration_ms={duration_s * _MS_PER_S:.3f}{fields}"
        )


class JobFacts(NamedTuple):
    job_id: str
    task: str
    reason: str | None
    queue_s: float
    run_s: float | None
    traceparent: str

    @classmethod
    def of(cls, job: Job) -> JobFacts:
        outcome = job.outcome
        reason = None if outcome is None else outcome.reason
        traceparent = job.labels.get("traceparent", "") if job.labels else ""
        return cls(job.id, job.limits.name, reason, job.wait_s or 0.0, job.run_s, traceparent)

    def fields(self) -> str:
        job_id, task, reason, queue_s, run_s, traceparent = self
        run = "" if run_s is None else f" run_ms={run_s * _MS_PER_S:.3f}"
        trace = f" traceparent={traceparent}" if traceparent else ""
        return f" job_id={job_id} task={task} reason={reason} queue_ms={queue_s * _MS_PER_S:.3f}{run}{trace}"


class Batch:
    """The message of a log record that stands for many lines."""

    def __init__(self, entries: list[Entry], dropped: int) -> None:
        self._entries = entries
        self._dropped = dropped

    def __len__(self) -> int:
        """How many lines, for whoever bounds the log."""
        return len(self._entries) + bool(self._dropped)

    def lines(self) -> Iterator[str]:
        for entry in self._entries:
            yield entry.line()
        if self._dropped:
            yield f"access log lines dropped dropped={self._dropped}"

    def __str__(self) -> str:
        return "\n".join(self.lines())


class AccessLog:
    """Collects entries of one event loop and hands them to the log."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, entry: Entry) -> None:
        if len(self._entries) < _MAX_BATCH_LINES:
            self._entries.append(entry)
        else:
            self._dropped += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_EVERY_S, self.flush)

    def flush(self) -> None:
        """Hands over what there is; may be called at any time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._entries and logger.isEnabledFor(logging.INFO):
            logger.info(Batch(self._entries, self._dropped))
        self._entries = []
        self._dropped = 0


@lru_cache(maxsize=_KNOWN_TEXTS)
def _quoted(text: str) -> str:
    if _BARE.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in escaped) + '"'
