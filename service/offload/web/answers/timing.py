"""The queue time and run time of a job as text, made once for the response and the access log."""

from __future__ import annotations

from typing import Final

from offload.core.job import Job

_MS_PER_S: Final = 1e3

# Queue time and run time in milliseconds with three decimals; the run time of a job that never ran is empty.
Timing = tuple[str, str]


def timing_of(job: Job) -> Timing:
    """Returns the times of a job that has ended."""
    run_s = job.run_s
    return f"{(job.wait_s or 0.0) * _MS_PER_S:.3f}", "" if run_s is None else f"{run_s * _MS_PER_S:.3f}"
