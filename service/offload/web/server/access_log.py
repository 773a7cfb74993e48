"""The access log: one line per request, at little cost for the event loop.

A line is formatted at once, which is cheaper than keeping its parts. Ten times a second the lines go to the logger
"offload.access" as one record, which the log's own thread writes. Lines above `_MAX_BATCH_LINES` per batch are counted
and dropped.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from aiohttp import web

from offload.core.job import Job
from offload.web.answers.timing import Timing, timing_of

logger: Final = logging.getLogger("offload.access")

_FLUSH_EVERY_S: Final = 0.1
# 20,000 lines/s, about the request rate of a fast machine; 4 MB/s of log.
_MAX_BATCH_LINES: Final = 2_000
_MS_PER_S: Final = 1e3
# Most requests have one of a few paths.
_KNOWN_TEXTS: Final = 256
# Anything else is quoted, so that a caller cannot forge fields or lines.
_BARE: Final = re.compile(r"[\x21\x23-\x3c\x3e-\x5b\x5d-\x7e]+")


class LogLine(NamedTuple):
    """The parts of a line that are known before the answer: its beginning and its end."""

    beginning: str
    ending: str

    @classmethod
    def of(
        cls, method: str, path: str, *, request_id: str = "", traceparent: str = "", remote: str | None = None
    ) -> LogLine:
        ending = f" traceparent={traceparent}" if traceparent else ""
        if request_id:
            ending += f" request_id={_quoted(request_id)}"
        if remote:
            ending += f" remote={_quoted(remote)}"
        return cls(f"request method={method} path={_quoted(path)} status=", ending)

    def complete(
        self,
        *,
        status: int,
        body_bytes: int,
        duration_s: float,
        job: Job | None = None,
        timing: Timing | None = None,
    ) -> str:
        """Returns the whole line. `job` must have ended; pass its `timing` if it has been computed."""
        answer = f"{self.beginning}{status} bytes={body_bytes} duration_ms={duration_s * _MS_PER_S:.3f}"
        if job is None or job.outcome is None:
            return answer + self.ending
        queue_ms, run_ms = timing or timing_of(job)
        run = f" run_ms={run_ms}" if run_ms else ""
        return (
            f"{answer} job_id={job.id} task={job.limits.name} reason={job.outcome.reason} queue_ms={queue_ms}"
            f"{run}{self.ending}"
        )


class Batch:
    """The message of a log record that holds many lines."""

    def __init__(self, lines: list[str], dropped: int) -> None:
        self._lines = lines
        self._dropped = dropped

    def __len__(self) -> int:
        """Returns the number of lines, for the bound on the log's queue."""
        return len(self._lines) + bool(self._dropped)

    def lines(self) -> Iterator[str]:
        yield from self._lines
        if self._dropped:
            yield f"access log lines were dropped count={self._dropped}"

    def __str__(self) -> str:
        return "\n".join(self.lines())


class AccessLog:
    """Batches the lines of one event loop."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, line: str) -> None:
        if len(self._lines) < _MAX_BATCH_LINES:
            self._lines.append(line)
        else:
            self._dropped += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_EVERY_S, self.flush)

    def flush(self) -> None:
        """Log the batch. May be called at any time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines and logger.isEnabledFor(logging.INFO):
            logger.info(Batch(self._lines, self._dropped))
        self._lines = []
        self._dropped = 0


ACCESS_LOG: Final = web.AppKey("ACCESS_LOG", AccessLog)


@lru_cache(maxsize=_KNOWN_TEXTS)
def _quoted(text: str) -> str:
    if _BARE.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in escaped) + '"'
