"""Jobs for tests."""

from __future__ import annotations

from collections.abc import Sized
from itertools import count

from offload.core.job import Job, JobId
from offload.core.request import DEFAULT_URGENCY, NO_HEAD, JobHead, JobRequest, JobTerms, TaskLimits

TASK = TaskLimits(name="task", index=0, timeout_s=60.0)

_numbers = count(1)


def make_job(
    *,
    limits: TaskLimits = TASK,
    now: float = 0.0,
    body: Sized = b"",
    budget_s: float | None = None,
    urgency: int = DEFAULT_URGENCY,
    client: str = "",
    head: JobHead = NO_HEAD,
    number: int | None = None,
    id: str = "",
) -> Job:
    """Makes a new job that is submitted at `now`; number and id are unique unless given."""
    number = next(_numbers) if number is None else number
    terms = JobTerms(limits=limits, client=client, budget_s=budget_s, urgency=urgency, head=head)
    return Job(JobRequest(terms, body), id=JobId(id or f"{number:032x}"), number=number, submitted_at=now)
