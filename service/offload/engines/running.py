"""How long a job has run so far, for what `/stats` shows of workers.

Lives here: the one look at the clock for it.  Every engine calls it.
"""

from __future__ import annotations

import time

from offload.core.job import Job


def running_s(job: Job | None) -> float | None:
    """Seconds; None without a job, and for one that has not begun."""
    return None if job is None or job.started_at is None else time.monotonic() - job.started_at
