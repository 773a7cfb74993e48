"""Reads the clock for what `/stats` shows of workers."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from offload.core.job import Job


def timestamp() -> str:
    """Returns the present time in UTC, as in RFC 3339, with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def running_s(job: Job | None) -> float | None:
    """Returns seconds; None without a job, or if it has not begun."""
    return None if job is None or job.started_at is None else time.monotonic() - job.started_at
