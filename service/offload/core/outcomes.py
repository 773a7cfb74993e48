"""The outcomes that are found here and not in the worker, each with the facts that its caller is told.

Lives here: words for the scheduler, no decisions.  `web` makes the problem document of them.
"""

from __future__ import annotations

from offload.core.admission.admission import Rejection
from offload.core.death import Death
from offload.core.job import Job, Outcome, Reason


def overdue(job: Job) -> Outcome:
    """Which of its two limits ended the job: the task's timeout on run time, or the caller's budget."""
    if job.started_at is None or not job.is_running:
        return Outcome(reason=Reason.DEADLINE_EXCEEDED, facts={"stage": "queued"})
    limit_s = job.limits.timeout_s
    if job.deadline is not None and job.deadline < job.started_at + limit_s:
        return Outcome(reason=Reason.DEADLINE_EXCEEDED, facts={"stage": "running"})
    return Outcome(reason=Reason.JOB_TIMEOUT, facts={"limit_s": limit_s, "stage": "running"})


def cancelled(job: Job, why: Reason) -> Outcome:
    return Outcome(reason=why, facts={"stage": "running" if job.is_running else "queued"})


def over_memory(job: Job, peak_bytes: int) -> Outcome:
    return Outcome(reason=Reason.MEMORY_LIMIT, facts={"limit_bytes": job.limits.memory_bytes, "peak_bytes": peak_bytes})


def crashed(death: Death) -> Outcome:
    return Outcome(reason=Reason.WORKER_CRASHED, facts={"death": death, **death.facts()})


def rejected(rejection: Rejection, retry_after_s: int | None) -> Outcome:
    when = {} if retry_after_s is None else {"retry_after_s": retry_after_s}
    return Outcome(reason=rejection.reason, facts={**rejection.facts, **when})


def sent_away(why: Reason) -> Outcome:
    """It was taken, and cannot be kept any longer; another machine may serve it at once."""
    return Outcome(reason=why, facts={"retry_after_s": 1})
