"""`JobCall`, one job as a worker runs it."""

from __future__ import annotations

from typing import NamedTuple

from offload.core.request import JobHead
from offload.worker.large import LargeBody


class JobCall(NamedTuple):
    """`number` identifies the job between processes, `job_id` to people. `attempt` counts from 1."""

    number: int
    task_index: int
    attempt: int
    job_id: str
    head: JobHead
    body: bytes | memoryview | LargeBody
