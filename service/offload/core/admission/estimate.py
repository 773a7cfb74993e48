"""When a job that came now would begin: what goes before it, shared by the slots.

Lives here: arithmetic over what the queue and the slots hold, of today's estimates of run times.  It decides nothing
and changes nothing; `admission` asks it.
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

# What goes before a job may turn out so many times as much as expected: others come who go first, or the machine has
# more to do than jobs.  It costs nothing: to keep the slots busy, a queue far shorter than callers' patience is enough.
DOUBT: Final = 2.0
# An outlook that is so old, seconds, is still as good as new: by so much jobs are early or late anyway.
KEPT_S: Final = 0.001


class BusySlots(Protocol):
    """The slots, as far as it matters how busy they are.  `changes` counts whatever alters that but time."""

    changes: int

    def busy(self, now: float) -> tuple[int, Sequence[tuple[float, int]]]:
        """How many slots have a worker; and of each of them, or of many some, for how many seconds it has to do with
        a job of which task."""


class Candidate(Protocol):
    """What has to be known of a job to say when it would be done.  A `Job` is one, an `Inquiry` comes before it."""

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
    """A `Candidate` for which there is no job.  Without `limits` it is for any job, of anybody.

    `deadline` is the end of the caller's budget, an instant, None without one.
    """

    limits: TaskLimits | None = None
    urgency: int = DEFAULT_URGENCY
    client: str = ""
    size_bytes: int = 0
    deadline: float | None = None


class Outlook(NamedTuple):
    """How long a job would wait, seconds: as expected, and if what goes before it takes `DOUBT` times as long."""

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
        self._kept = Outlook(0.0, 0.0)
        self._kept_for: tuple[object, ...] = ()
        self._kept_until = 0.0

    def outlook(self, candidate: Candidate, now: float) -> Outlook:
        """What such a job would wait for while no slot is idle.

        In an overload many are refused between two changes, and to all that are alike it looks the same.
        """
        kept_for = (candidate.limits, candidate.urgency, candidate.client, self._queue.changes, self._slots.changes)
        if kept_for != self._kept_for or now > self._kept_until:
            self._kept = self._look_out(candidate, now)
            self._kept_for = kept_for
            self._kept_until = now + KEPT_S
        return self._kept

    def _look_out(self, candidate: Candidate, now: float) -> Outlook:
        present, busy = self._slots.busy(now)
        share = len(busy) / present if present else 1.0
        task = candidate.limits
        shut = {
            limits.index: count * self.cost_s(limits) / limits.max_running
            for limits, count in self._queue.limited(candidate.urgency)
            if limits is not task and not self._running_limits.allow_task(limits)
        }
        ahead_s = share * self._queue.ahead_s(
            urgency=candidate.urgency,
            client=candidate.client,
            index=None if task is None else task.index,
            cost_s=self.cost_s(task),
            without=shut,
        )
        # Jobs that wait at a gate follow those of their task that run: to others their slots are taken for longer.
        busy_s = [seconds + shut.get(index, 0.0) for seconds, index in busy]
        gate_s = self.limit_wait_s(task)
        return Outlook(max(wait_s(ahead_s, busy_s), gate_s), max(wait_s(ahead_s * DOUBT, busy_s), gate_s))

    def limit_wait_s(self, limits: TaskLimits | None) -> float:
        """What a job waits for others of its task, of which only so many may run at once."""
        if limits is None or not limits.max_running:
            return 0.0
        ahead = (
            self._queue.length_of_task(limits.index) + self._running_limits.running(limits) / 2
        )  # on average half done
        return ahead * self.cost_s(limits) / limits.max_running

    def own_s(self, limits: TaskLimits | None) -> float:
        """What the job itself needs then, if it goes as most do."""
        return 0.0 if limits is None else self._run_times.typical_s(limits.index)

    def cost_s(self, limits: TaskLimits | None) -> float:
        """What a job of the task is expected to take of a slot."""
        return 0.0 if limits is None else self._run_times.expected_s(limits.index)
