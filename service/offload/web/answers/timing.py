"""How long a job waited and ran, as its caller and the log are told.

Lives here: the two times as text, which is made once for both.
"""

from __future__ import annotations

from typing import Final

from offload.core.job import Job

_MS_PER_S: Final = 1e3

# Queue wait and run time, milliseconds with three decimals; the latter is empty for a job that never ran.
Timing = tuple[str, str]


def timing_of(job: Job) -> Timing:
    """`job` has ended."""
    run_s = job.run_s
    return f"{(job.wait_s or 0.0) * _MS_PER_S:.3f}", "" if run_s is None else f"{run_s * _MS_PER_S:.3f}"
