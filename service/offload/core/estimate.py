"""When a job that came now would begin: what goes before it, shared by the slots.

Lives here: arithmetic over what the queue and the slots hold, of today's estimates of run times.  It decides nothing
and changes nothing; `admission` asks it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from offload.core.gates import Gates
from offload.core.job import DEFAULT_URGENCY, Job, TaskLimits
from offload.core.queue import JobQueue
from offload.core.run_times import RunTimes
from offload.core.work import wait_s

# How often the estimate is made anew with what tasks that may not use all slots can really do; it settles at once.
_ROUNDS: Final = 3

# Of slots that have a worker, how many there are, and for how long each of them, or of many some, goes on.
BusySlots = Callable[[float], tuple[int, Sequence[float]]]


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


class Estimate:
    def __init__(self, *, queue: JobQueue, gates: Gates, run_times: RunTimes, busy_slots: BusySlots) -> None:
        self._queue = queue
        self._gates = gates
        self._run_times = run_times
        self._busy_slots = busy_slots

    def wait_s(self, ask: Ask, now: float) -> float:
        """How long such a job would wait while no slot is idle: for the work that goes before it, and for its gate."""
        slots, busy_s = self._busy_slots(now)
        share = len(busy_s) / slots if slots else 1.0
        index = None if ask.limits is None else ask.limits.index
        cost_s = self.cost_s(ask.limits)
        ahead_s = self._queue.ahead_s(urgency=ask.urgency, client=ask.client, index=index, cost_s=cost_s)
        gated = list(self._queue.gated(ask.urgency))
        gated_s = sum(self.cost_s(limits) * count for limits, count in gated)
        expected_s = wait_s(max(0.0, ahead_s - gated_s) * share, busy_s)
        for _ in range(_ROUNDS if gated else 0):
            # Of a task that may not use all slots, no more goes before it than gets through its gate meanwhile.
            passing_s = sum(
                min(self.cost_s(limits) * count, self._passing_s(limits, expected_s)) for limits, count in gated
            )
            expected_s = wait_s(max(0.0, ahead_s - gated_s + passing_s) * share, busy_s)
        return max(expected_s, self.gate_wait_s(ask.limits))

    def _passing_s(self, limits: TaskLimits, within_s: float) -> float:
        """How much work of a task gets through its gate, besides what runs already."""
        return max(0.0, limits.max_running * within_s - self._gates.running(limits) * self.cost_s(limits) / 2)

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
