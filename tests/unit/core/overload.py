"""A simulation of overload: open-loop arrivals on a virtual clock, against the core, decided by a seed.

Callers send at a fixed rate, give up when their budget runs out, and may return after `Retry-After`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from typing import Self

from offload.core.admission.admission import AdmissionLimits
from offload.core.commands import Command, Settled, Start
from offload.core.death import Death
from offload.core.job import Job, JobState, SlotId
from offload.core.outcome import Outcome, Reason
from offload.core.request import DEFAULT_URGENCY, TaskLimits
from offload.core.scheduler import Scheduler
from tests.support.jobs import make_job


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request, and how often its caller returns after a rejection."""

    task: TaskLimits
    run_s: float
    budget_s: float | None = None
    client: str = ""
    urgency: int = DEFAULT_URGENCY
    returns: int = 0
    has_returned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Visits at random, `per_s` of them, between two instants."""

    visit: Visit
    per_s: float
    from_s: float = 0.0
    to_s: float


@dataclass(slots=True, kw_only=True)
class Ended:
    """How one visit ended, after `waited_s`."""

    visit: Visit
    came_at: float
    waited_s: float
    reason: Reason
    retry_after_s: int | None

    @property
    def is_good(self) -> bool:
        """Whether it has its result in time."""
        return self.reason is Reason.SUCCEEDED and (self.visit.budget_s is None or self.waited_s <= self.visit.budget_s)


class Overload:
    """`stop_s` is how long it takes to stop a job and free its slot; `limits` are further limits of admission.

    Afterwards `ended` has the end of each visit, `most_queued` the length of the queue at its longest, `busy_s` the run
    time of all jobs that succeeded.
    """

    def __init__(
        self,
        *,
        slots: int,
        streams: Iterable[Stream],
        queue_limit: int = 1000,
        stop_s: float = 0.02,
        **limits: int,
    ) -> None:
        self.ended: list[Ended] = []
        self.most_queued = 0
        self.busy_s = 0.0
        self._stop_s = stop_s
        self._random = Random(1)
        self._now = 0.0
        self._entries = count()
        self._heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._visits: dict[Job, tuple[Visit, float]] = {}
        self._timer_at = float("inf")
        self._generations = {SlotId(slot): 1 for slot in range(slots)}
        self._scheduler = Scheduler(limits=AdmissionLimits(queue_limit=queue_limit, queue_bytes=1 << 40, **limits))
        for slot in self._generations:
            self._scheduler.slot_added(slot)
            self._scheduler.ready(slot, 1, 0.0)
        for stream in streams:
            self._at(stream.from_s, self._next_of, stream)

    def run(self) -> Self:
        """Plays the streams until every visit has ended."""
        while self._heap:
            self._now, _, event, arguments = heapq.heappop(self._heap)
            event(*arguments)
            self._scheduler.check_balance()
        self._scheduler.check_invariants()
        return self

    # Results

    def good(self, task: TaskLimits, *, from_s: float = 0.0, to_s: float = float("inf")) -> int:
        """Returns how many visits of the task from that time were served in time."""
        return sum(ended.is_good for ended in self.of(task) if from_s <= ended.came_at < to_s)

    def of(self, task: TaskLimits) -> list[Ended]:
        return [ended for ended in self.ended if ended.visit.task is task]

    # Events

    def _at(self, instant: float, event: Callable[..., None], *arguments: object) -> None:
        heapq.heappush(self._heap, (instant, next(self._entries), event, arguments))

    def _next_of(self, stream: Stream) -> None:
        arrives_at = self._now + self._random.expovariate(stream.per_s)
        if arrives_at < stream.to_s:
            self._at(arrives_at, self._arrive_of, stream)

    def _arrive_of(self, stream: Stream) -> None:
        self._arrive(stream.visit)
        self._next_of(stream)

    def _arrive(self, visit: Visit) -> None:
        job = make_job(
            limits=visit.task, now=self._now, budget_s=visit.budget_s, urgency=visit.urgency, client=visit.client
        )
        self._visits[job] = (visit, self._now)
        self._carry_out(self._scheduler.submit(job, self._now))

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Start):
                run_s = self._visits[command.job][0].run_s
                self._at(
                    self._now + run_s, self._finish, command.slot, self._generations[command.slot], command.job, run_s
                )
            elif isinstance(command, Settled):
                self._note_ended(command.job)
            else:
                generation = self._generations[command.slot]
                self._at(self._now + self._stop_s, self._die, command.slot, generation)
        self.most_queued = max(self.most_queued, self._scheduler.queued)
        instant = self._scheduler.alarm.at
        if instant < self._timer_at:
            self._timer_at = instant
            self._at(max(instant, self._now), self._on_timer, instant)

    def _on_timer(self, armed_for: float) -> None:
        if armed_for == self._timer_at:
            self._timer_at = float("inf")
            self._carry_out(self._scheduler.expire(self._now))

    def _finish(self, slot: SlotId, generation: int, job: Job, run_s: float) -> None:
        if generation == self._generations[slot]:
            self.busy_s += run_s
            outcome = Outcome(reason=Reason.SUCCEEDED, run_s=run_s)
            self._carry_out(self._scheduler.finished(slot, generation, [(job.number, outcome)], now=self._now))

    def _die(self, slot: SlotId, generation: int) -> None:
        if generation != self._generations[slot]:
            return
        self._generations[slot] += 1
        self._carry_out(self._scheduler.died(slot, generation, Death(), begun=1, now=self._now))
        self._carry_out(self._scheduler.ready(slot, self._generations[slot], self._now))

    def _note_ended(self, job: Job) -> None:
        visit, came_at = self._visits.pop(job)
        assert job.outcome is not None
        ended = Ended(
            visit=visit,
            came_at=came_at,
            waited_s=self._now - came_at,
            reason=job.outcome.reason,
            retry_after_s=_whole(job.outcome.facts.get("retry_after_s")),
        )
        self.ended.append(ended)
        if job.state is JobState.REJECTED and visit.returns and ended.retry_after_s is not None:
            again = replace(visit, returns=visit.returns - 1, has_returned=True)
            self._at(self._now + ended.retry_after_s, self._arrive, again)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
