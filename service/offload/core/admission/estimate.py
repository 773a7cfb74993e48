"""When a job submitted now would begin: arithmetic on what the queue and the slots hold.

It uses the present estimates of run times, decides nothing and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from offload.core.queue.job_queue import JobQueue
from offload.core.queue.running_limits import RunningLimits
from offload.core.queue.work import wait_s
from offload.core.request import DEFAULT_URGENCY, TaskLimits
from offload.core.run_times import RunTimes

# The estimate doubles the work ahead of a job as a safety margin: more urgent jobs may come, or other processes may
# need the CPU. It costs nothing: a queue far shorter than callers' patience is enough to keep the slots busy.
CAUTION: Final = 2.0
# An outlook may be reused for this many seconds: jobs are early or late by that much anyway.
_REUSED_FOR_S: Final = 0.001


class BusySlots(Protocol):
    """How busy the slots are. `changes` counts everything that changes this, except time."""

    changes: int

    def busy(self, now: float) -> tuple[int, Sequence[tuple[float, int]]]:
        """Returns (slots with a worker, [(remaining seconds, task index), …]); may sample the slots."""


class Candidate(Protocol):
    """What admission must know of a job. A `Job` is a candidate; an `Inquiry` is one without a job."""

    @property
    def limits(self) -> TaskLimits | None: ...
    @property
    def urgency(self) -> int: ...
    @property
    def client(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def deadline(self) -> float | None: ...


@dataclass(slots=True, kw_only=True)
class Inquiry:
    """A candidate that is not a job yet. Without `limits` it stands for any job of any client.

    `deadline` is the end of the caller's budget, a monotonic instant, None without one.
    """

    limits: TaskLimits | None = None
    urgency: int = DEFAULT_URGENCY
    client: str = ""
    size_bytes: int = 0
    deadline: float | None = None


class Outlook(NamedTuple):
    """How long a job would wait, in seconds: as expected, and if the work ahead takes `CAUTION` times as long."""

    wait_s: float
    cautious_wait_s: float


class Estimate:
    def __init__(
        self, *, queue: JobQueue, running_limits: RunningLimits, run_times: RunTimes, slots: BusySlots
    ) -> None:
        self._queue = queue
        self._running_limits = running_limits
        self._run_times = run_times
        self._slots = slots
        self._last = Outlook(0.0, 0.0)
        self._last_key: tuple[object, ...] = ()
        self._last_until = 0.0

    def outlook(self, candidate: Candidate, now: float) -> Outlook:
        """Returns how long the candidate would wait while no slot is idle.

        Under overload many similar jobs are rejected between two changes; they share one outlook.
        """
        key = (candidate.limits, candidate.urgency, candidate.client, self._queue.changes, self._slots.changes)
        if key != self._last_key or now > self._last_until:
            self._last = self._calculate(candidate, now)
            self._last_key = key
            self._last_until = now + _REUSED_FOR_S
        return self._last

    def _calculate(self, candidate: Candidate, now: float) -> Outlook:
        present, busy = self._slots.busy(now)
        share = len(busy) / present if present else 1.0
        task = candidate.limits
        at_limit = {
            limits.index: count * self.cost_s(limits) / limits.max_running
            for limits, count in self._queue.limited(candidate.urgency)
            if limits is not task and not self._running_limits.allow_task(limits)
        }
        ahead_s = share * self._queue.ahead_s(
            urgency=candidate.urgency,
            client=candidate.client,
            index=None if task is None else task.index,
            cost_s=self.cost_s(task),
            without=at_limit,
        )
        # Jobs of a task at its limit follow those of the task that run: for other tasks, their slots stay taken.
        busy_s = [seconds + at_limit.get(index, 0.0) for seconds, index in busy]
        limit_s = self.limit_wait_s(task)
        return Outlook(max(wait_s(ahead_s, busy_s), limit_s), max(wait_s(ahead_s * CAUTION, busy_s), limit_s))

    def limit_wait_s(self, limits: TaskLimits | None) -> float:
        """Returns how long a job waits for others of its task because only `max_running` of them may run at once."""
        if limits is None or not limits.max_running:
            return 0.0
        running = self._running_limits.running(limits)
        ahead = self._queue.length_of_task(limits.index) + running / 2  # on average a running job is half done
        return ahead * self.cost_s(limits) / limits.max_running

    def own_s(self, limits: TaskLimits | None) -> float:
        """Returns the typical run time of the task."""
        return 0.0 if limits is None else self._run_times.typical_s(limits.index)

    def cost_s(self, limits: TaskLimits | None) -> float:
        """Returns the mean run time of the task: what one of its jobs is expected to take of a slot."""
        return 0.0 if limits is None else self._run_times.expected_s(limits.index)
