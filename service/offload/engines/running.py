"""Measures how long a job has run so far, for `/stats`."""

from __future__ import annotations

import time

from offload.core.job import Job


def running_s(job: Job | None) -> float | None:
    """Returns seconds; None without a job, or if it has not begun."""
    return None if job is None or job.started_at is None else time.monotonic() - job.started_at
