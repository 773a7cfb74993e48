"""asyncio around the scheduler: waiting callers, one timer for all deadlines, and the carrying out of commands."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from offload.core.admission.admission import Rejection
from offload.core.admission.estimate import Inquiry
from offload.core.commands import Command, Settled, Start
from offload.core.death import Death
from offload.core.job import END_STATE, Job, JobId, JobState, SlotId
from offload.core.outcome import Ended, Outcome, Reason
from offload.core.request import JobRequest, JobTerms, TaskLimits
from offload.core.scheduler import Scheduler
from offload.dispatch.arrival import Arrival
from offload.dispatch.fingerprint import fingerprint_of
from offload.dispatch.ids import JobIds
from offload.engines.base import Engine
from offload.metrics.recorder import Recorder

logger: Final = logging.getLogger("offload.jobs")

OnEnd = Callable[[Job], object]

# If the timer is later than this, the loop was busy. After the same time again it has read the waiting answers.
_LATE_S: Final = 0.001

# The ends that are logged as warnings.
_WARNINGS: Final = frozenset(
    reason for reason, state in END_STATE.items() if state in (JobState.TIMED_OUT, JobState.CRASHED)
)


class Dispatcher:
    """Runs jobs for one event loop. Implements `EngineEvents`. All methods must be called on the loop's thread."""

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        engine: Engine,
        recorder: Recorder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scheduler = scheduler
        self._engine = engine
        self._recorder = recorder
        self._clock = clock
        self.is_draining = False
        self._loop = asyncio.get_running_loop()
        self._ids = JobIds()
        self._numbers = 0
        self._waiting: dict[Job, OnEnd] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._alarm = scheduler.alarm
        self._became_empty = asyncio.Event()

    # Callers

    def rejection(self, terms: JobTerms | None = None, *, size_bytes: int = 0) -> Rejection | None:
        """Returns why a job with a body of that size would be rejected now, None if it would be accepted.

        Without `terms` it stands for any job of any client.
        """
        if terms is None:
            return self._scheduler.rejection(Inquiry(), self._clock())
        now = self._clock()
        inquiry = Inquiry(
            limits=terms.limits,
            urgency=terms.urgency,
            client=terms.client,
            size_bytes=size_bytes,
            deadline=None if terms.budget_s is None else now + terms.budget_s,
        )
        return self._scheduler.rejection(inquiry, now)

    def arrival(self) -> Arrival:
        """Returns the counter of a body that is about to be read."""
        return Arrival(self._scheduler.traffic)

    def reject_body(self, terms: JobTerms) -> Job:
        """Reject a job whose body found no room while it arrived. The job is settled and counted like any other."""
        return self.reject(terms, self._scheduler.body_without_room(self._clock()))

    @contextmanager
    def leaving(self, size_bytes: int) -> Iterator[None]:
        """Count a result while it is being sent; a slow caller may make that long."""
        self._scheduler.traffic.result_leaves(size_bytes)
        try:
            yield
        finally:
            self._scheduler.traffic.result_has_left(size_bytes)

    def new_job(self, request: JobRequest) -> Job:
        """Make the job of a request, with id and number. It is not submitted yet."""
        self._numbers += 1
        return Job(request, id=self._ids.next(), number=self._numbers, submitted_at=self._clock())

    def is_suspect(self, limits: TaskLimits) -> bool:
        """Whether jobs of the task have killed workers lately, so that `run` must fingerprint this one."""
        quarantine = self._scheduler.quarantine
        return bool(quarantine.crashed_at) and quarantine.watches(limits.index, self._clock())

    def submit(self, job: Job, on_end: OnEnd) -> None:
        """Submit a job of a task that is not suspect, and call `on_end` when it has its outcome, perhaps at once.

        `on_end` is called while commands are being carried out, and must not call the dispatcher.
        """
        self._waiting[job] = on_end
        self._recorder.count_submission(job.limits.index)
        self._carry_out(self._scheduler.submit(job, self._clock()))

    async def run(self, job: Job) -> None:
        """Submit a job and return when it has its outcome; a rejection is one.

        Cancelling the calling task ends the job and its work, as a disconnected caller does.
        """
        if self.is_suspect(job.limits):
            job.fingerprint = await fingerprint_of(job)
        has_ended = self._loop.create_future()
        self.submit(job, lambda _: None if has_ended.done() else has_ended.set_result(None))
        try:
            await has_ended
        except asyncio.CancelledError:
            self.cancel(job, Reason.DISCONNECTED)
            raise
        if job.crashes:
            await self.identify(job)

    async def identify(self, job: Job) -> None:
        """Fingerprint a job that killed its worker. Await it before answering: the caller might send the job again."""
        fingerprint = job.fingerprint or await fingerprint_of(job)
        if fingerprint is not None:
            self._scheduler.identify(job, fingerprint)

    def reject(self, terms: JobTerms, rejection: Rejection) -> Job:
        """Reject a job before its body is read. The job is settled and counted like any other."""
        job = self.new_job(JobRequest(terms))
        self._recorder.count_submission(job.limits.index)
        self._carry_out(self._scheduler.reject(job, rejection, self._clock()))
        return job

    def find(self, job_id: JobId) -> Job | None:
        """Returns a job that has not ended."""
        return self._scheduler.find(job_id)

    def cancel(self, job: Job, why: Reason = Reason.CANCELLED) -> None:
        """End the job and its work. Does nothing if the job has ended."""
        self._carry_out(self._scheduler.cancel(job, why, self._clock()))

    # Stopping

    async def drain(self, timeout_s: float, hurry: asyncio.Event) -> None:
        """Accept no more jobs, let the others finish within `timeout_s` or until `hurry`, and stop the rest."""
        self.is_draining = True
        self._scheduler.begin_drain(self._clock() + timeout_s)
        if not self._scheduler.is_empty:
            self._became_empty.clear()
            waits = [asyncio.create_task(event.wait()) for event in (self._became_empty, hurry)]
            try:
                await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        self.stop_all()

    def stop_all(self) -> None:
        """End every job that is left, with an answer."""
        self._carry_out(self._scheduler.stop_all(self._clock()))

    def close(self) -> None:
        """Stop the jobs that are left, and the timer. No more jobs are accepted."""
        self.is_draining = True
        self._scheduler.begin_drain(self._clock())
        self.stop_all()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Events of the engine

    def slot_added(self, slot: SlotId) -> None:
        self._scheduler.slot_added(slot)

    def slot_removed(self, slot: SlotId) -> None:
        self._scheduler.slot_removed(slot)

    def ready(self, slot: SlotId, generation: int) -> None:
        self._carry_out(self._scheduler.ready(slot, generation, self._clock()))

    def finished(self, slot: SlotId, generation: int, ended: Sequence[Ended], *, is_leaving: bool = False) -> None:
        now = self._clock()
        self._carry_out(self._scheduler.finished(slot, generation, ended, is_leaving=is_leaving, now=now))

    def died(self, slot: SlotId, generation: int, death: Death, *, begun: int) -> None:
        self._carry_out(self._scheduler.died(slot, generation, death, begun=begun, now=self._clock()))

    def exceeded_memory(self, job: Job, *, peak_bytes: int) -> None:
        self._carry_out(self._scheduler.exceed_memory(job, peak_bytes=peak_bytes, now=self._clock()))

    def failing_to_start(self) -> None:
        self._carry_out(self._scheduler.failing_to_start(self._clock()))

    # Commands

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Settled):
                self._answer(command.job)
            elif isinstance(command, Start):
                self._engine.start(command.slot, command.job)
            else:
                self._engine.stop(command.slot, command.job, command.why)
        if self._alarm.at < self._timer_at:
            self._arm_timer(self._alarm.at)

    def _answer(self, job: Job) -> None:
        self._recorder.count_outcome(job)
        if job.outcome is not None and job.outcome.reason in _WARNINGS:
            _log_end(job, job.outcome)
        on_end = self._waiting.pop(job, None)
        if on_end is not None:
            try:
                on_end(job)
            except Exception:  # the remaining commands must be carried out
                logger.exception("answering a caller failed", extra={"fields": {"job_id": job.id}})
        if self.is_draining and self._scheduler.is_empty:
            self._became_empty.set()

    def _arm_timer(self, instant: float) -> None:
        """Set the timer to an instant before the present one."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = instant
        self._timer = self._loop.call_later(max(0.0, instant - self._clock()), self._on_timer)

    def _on_timer(self) -> None:
        """If the loop is late, answers that arrived in time are read first, before jobs are timed out."""
        if self._clock() - self._timer_at > _LATE_S:
            self._timer = self._loop.call_later(_LATE_S, self._expire)
        else:
            self._expire()

    def _expire(self) -> None:
        self._timer = None
        self._timer_at = float("inf")
        self._carry_out(self._scheduler.expire(self._clock()))


def _log_end(job: Job, outcome: Outcome) -> None:
    fields: dict[str, object] = {
        "job_id": job.id,
        "task": job.limits.name,
        "reason": outcome.reason,
        "lane": job.slot,
        "attempt": job.attempt,
        "wait_s": round(job.wait_s or 0.0, 6),
        "run_s": job.run_s,
        **job.request.head.labels(),
    }
    facts = {name: value for name, value in outcome.facts.items() if name not in fields}
    logger.warning("job %s", job.state.value.replace("_", " "), extra={"fields": fields | facts})
