"""All jobs that have not ended, and the count of all that have.

Lives here: every change of a job's state, together with what must change with it: its deadline, the number of jobs that
run and the work that they are expected to be, the books.  Where a job is, in the queue or in a slot, is not known here.
The scheduler is its only caller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from offload.core.admission.admission import Load
from offload.core.commands import Settled
from offload.core.deadlines import Alarm, Deadlines
from offload.core.invariants import check_deadlines
from offload.core.job import END_STATE, Job, JobId, JobState, SlotId
from offload.core.outcome import Outcome
from offload.errors import IllegalStep


class Books:
    """For the scheduler to read: `submitted` jobs ever; `running`, those in that state; `ended`, by final state."""

    def __init__(self, load: Load, alarm: Alarm) -> None:
        self.submitted = 0
        self.running = 0
        self.ended: Counter[JobState] = Counter()
        self._open: dict[JobId, Job] = {}
        self._deadlines: Deadlines[Job] = Deadlines(alarm)
        self._load = load

    @property
    def is_empty(self) -> bool:
        return not self._open

    def find(self, job_id: JobId) -> Job | None:
        """A job that has not ended."""
        return self._open.get(job_id)

    def open_jobs(self) -> Iterator[Job]:
        """The jobs that have not ended, first come first; they may be ended meanwhile."""
        yield from list(self._open.values())

    def pop_due(self, now: float) -> list[Job]:
        """The jobs whose time is over; each is told once."""
        return self._deadlines.pop_due(now)

    def next_instant(self) -> float | None:
        """When `pop_due` is wanted next, monotonic seconds; None for never."""
        return self._deadlines.next_instant()

    # Steps in the life of a job

    def count_in(self, job: Job) -> None:
        """A new job, taken or not.  Raises IllegalStep if it is not new."""
        if not job.is_new:
            raise IllegalStep(thing=f"job {job.id}", state=job.state, event="submit")
        self.submitted += 1

    def admit(self, job: Job) -> None:
        """A new job that is taken.  Raises IllegalStep if it is not new."""
        self.count_in(job)
        self._open[job.id] = job

    def wait(self, job: Job) -> None:
        """It waits for its turn."""
        job.enqueue()
        if job.deadline is not None:
            self._deadlines.set(job, job.deadline)

    def begin(self, job: Job, slot_id: SlotId, now: float) -> None:
        """From now on it runs."""
        job.start(slot_id, now)
        self.running += 1
        limit = now + job.limits.timeout_s
        self._deadlines.set(job, limit if job.deadline is None else min(limit, job.deadline))

    def requeue(self, job: Job, *, begun: bool) -> None:
        """It lost its worker and waits for another."""
        job.requeue(begun=begun)
        self.running -= 1
        self._deadlines.discard(job)
        if job.deadline is not None:
            self._deadlines.set(job, job.deadline)

    def settle(self, job: Job, outcome: Outcome, now: float) -> Settled:
        """The end, wherever it was."""
        job.settle(outcome, now)
        if job.started_at is not None:
            self.running -= 1
        self._deadlines.discard(job)
        return self._close(job, outcome)

    def pass_by(self, job: Job, slot_id: SlotId, outcome: Outcome, now: float) -> Settled:
        """It began and ended before anybody looked."""
        job.start(slot_id, now)
        job.settle(outcome, now)
        if job.deadline is not None:
            self._deadlines.discard(job)
        return self._close(job, outcome)

    def _close(self, job: Job, outcome: Outcome) -> Settled:
        self._open.pop(job.id, None)
        self.ended[END_STATE[outcome.reason]] += 1
        return Settled(job)

    # Self-checks

    def check_balance(self, *, queued: int) -> None:
        """In constant time: every job submitted has ended, waits or runs.  Raises AssertionError."""
        counted = sum(self.ended.values()) + queued + self.running
        assert self.submitted == counted, f"{self.submitted} submitted, {counted} accounted for"

    def check_invariants(self) -> None:
        check_deadlines(self._deadlines, self._open.values())
