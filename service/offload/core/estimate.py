"""When a job that came now would begin: what goes before it, shared by the slots.

Lives here: arithmetic over what the queue and the slots hold, of today's estimates of run times.  It decides nothing
and changes nothing; `admission` asks it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from offload.core.gates import Gates
from offload.core.job import DEFAULT_URGENCY, Job, TaskLimits
from offload.core.queue import JobQueue
from offload.core.run_times import RunTimes
from offload.core.work import wait_s

# Of slots that have a worker, how many there are; and of each of them, or of many some, for how many seconds it goes on
# with a job of which task.
BusySlots = Callable[[float], tuple[int, Sequence[tuple[float, int]]]]


@dataclass(slots=True, kw_only=True)
class Ask:
    """What is known of a job before it is one.  Without `limits` it is any job, of anybody.

    `budget_s` is what is left of the caller's budget, seconds, None without one.
    """

    limits: TaskLimits | None = None
    urgency: int = DEFAULT_URGENCY
    client: str = ""
    size_bytes: int = 0
    budget_s: float | None = None

    @classmethod
    def of(cls, job: Job, now: float) -> Ask:
        return cls(
            limits=job.limits,
            urgency=job.urgency,
            client=job.client,
            size_bytes=job.size_bytes,
            budget_s=None if job.deadline is None else job.deadline - now,
        )


class Outlook(NamedTuple):
    """`ahead_s` of work for the slots that go on for `busy_s` each, and `gate_s` until its task may have one more."""

    ahead_s: float
    busy_s: Sequence[float]
    gate_s: float

    def wait_s(self, *, doubt: float = 1.0) -> float:
        """Seconds; with `doubt` the work that goes before is so many times as much."""
        return max(wait_s(self.ahead_s * doubt, self.busy_s), self.gate_s)


class Estimate:
    def __init__(self, *, queue: JobQueue, gates: Gates, run_times: RunTimes, busy_slots: BusySlots) -> None:
        self._queue = queue
        self._gates = gates
        self._run_times = run_times
        self._busy_slots = busy_slots

    def outlook(self, ask: Ask, now: float) -> Outlook:
        """What such a job would wait for while no slot is idle."""
        slots, busy = self._busy_slots(now)
        share = len(busy) / slots if slots else 1.0
        task = ask.limits
        shut = {
            limits.index: count * self.cost_s(limits) / limits.max_running
            for limits, count in self._queue.gated(ask.urgency)
            if limits is not task and not self._gates.is_open(limits)
        }
        ahead_s = self._queue.ahead_s(
            urgency=ask.urgency,
            client=ask.client,
            index=None if task is None else task.index,
            cost_s=self.cost_s(task),
            without=shut,
        )
        # Jobs that wait at a gate follow those of their task that run: to others their slots are taken for longer.
        busy_s = [seconds + shut.get(index, 0.0) for seconds, index in busy]
        return Outlook(ahead_s * share, busy_s, self.gate_wait_s(task))

    def gate_wait_s(self, limits: TaskLimits | None) -> float:
        """What a job waits for others of its task, of which only so many may run at once."""
        if limits is None or not limits.max_running:
            return 0.0
        ahead = self._queue.length_of_task(limits.index) + self._gates.running(limits) / 2  # on average half done
        return ahead * self.cost_s(limits) / limits.max_running

    def own_s(self, limits: TaskLimits | None) -> float:
        """What the job itself needs then, if it goes as most do."""
        return 0.0 if limits is None else self._run_times.typical_s(limits.index)

    def cost_s(self, limits: TaskLimits | None) -> float:
        """What a job of the task is expected to take of a slot."""
        return 0.0 if limits is None else self._run_times.expected_s(limits.index)
