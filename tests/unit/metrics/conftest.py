"""Jobs that have ended in every possible way, for the tests of what counts them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from offload.core.job import END_STATE, Job, JobState, SlotId
from offload.core.outcome import Outcome, OverloadCause, Reason
from offload.core.request import TaskLimits
from tests.support.jobs import make_job

# Only a job that has begun can end in these states.
_NEEDS_A_RUN = (JobState.SUCCEEDED, JobState.FAILED, JobState.CRASHED)


@pytest.fixture(scope="session")
def ended_job() -> Callable[..., Job]:
    """Makes ended jobs.

    The job began `began_s` after its submission (None: never, if its end allows that) and ended `end_s` after it.
    """

    def make(
        reason: Reason = Reason.SUCCEEDED,
        *,
        task_index: int = 0,
        began_s: float | None = 0.0,
        end_s: float = 1.0,
        run_s: float | None = None,
        cause: OverloadCause = OverloadCause.QUEUE_FULL,
    ) -> Job:
        limits = TaskLimits(name=f"task-{task_index}", index=task_index, timeout_s=60.0)
        job = make_job(limits=limits, now=1000.0)
        facts = {"cause": cause} if reason is Reason.OVERLOADED else {}
        outcome = Outcome(reason=reason, run_s=run_s, facts=facts)
        if END_STATE[reason] is not JobState.REJECTED:
            job.enqueue()
            if began_s is not None:
                job.start(SlotId(0), 1000.0 + began_s)
            elif END_STATE[reason] in _NEEDS_A_RUN:
                job.start(SlotId(0), 1000.0)
        job.settle(outcome, 1000.0 + end_s)
        return job

    return make
