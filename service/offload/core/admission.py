"""The decision to take a job or refuse it.

Lives here: the moving estimates of run times, the wait that follows from them, and the one function that says yes or
why not.  It changes nothing but its estimates; the scheduler asks it, and acts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from offload.core.job import Job, Reason
from offload.core.queue import JobQueue

# Weight of the newest run time in a task's moving mean: about the last twenty jobs count.
_NEWEST_WEIGHT: Final = 0.05


class RunTimes:
    """Moving mean of each task's run time, seconds.  A task that never ran is expected to take no time: with nothing
    known, nobody is refused for it."""

    def __init__(self) -> None:
        self._mean_s: dict[int, float] = {}
        self._printing: set[int] = set()

    def expected_s(self, task_index: int) -> float:
        return self._mean_s.get(task_index, 0.0)

    def prints(self, task_index: int) -> bool:
        """Whether a job of the task has ever printed."""
        return task_index in self._printing

    def has_printed(self, task_index: int) -> None:
        self._printing.add(task_index)

    def is_known(self, task_index: int, *, below_s: float) -> bool:
        """Whether the task is known to take less."""
        mean_s = self._mean_s.get(task_index)
        return mean_s is not None and mean_s < below_s

    def record(self, task_index: int, run_s: float) -> None:
        before = self._mean_s.get(task_index)
        self._mean_s[task_index] = run_s if before is None else before + _NEWEST_WEIGHT * (run_s - before)

    def record_at_least(self, task_index: int, run_s: float) -> None:
        """A run that was stopped after `run_s`: news only if it was expected to take less.

        Without it, a task of which every job runs into its limit would be expected to take no time for ever.
        """
        if run_s > self.expected_s(task_index):
            self.record(task_index, run_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a job is not taken.  `retry_after_s` is a whole number of seconds, at least 1."""

    reason: Reason
    retry_after_s: int
    facts: Mapping[str, object]


@dataclass(slots=True, kw_only=True)
class Load:
    """What admission looks at besides the queue: one record, which the scheduler keeps true.

    `present_slots` counts those that have a worker.  `running_expected_s` is the sum of what running jobs were expected
    to take.  `drain_ends_at` is an instant, None unless the service drains.
    """

    present_slots: int = 0
    running_expected_s: float = 0.0
    was_ever_ready: bool = False
    is_failing_to_start: bool = False
    drain_ends_at: float | None = None


class Admission:
    def __init__(self, queue: JobQueue, load: Load) -> None:
        self.run_times = RunTimes()
        self._queue = queue
        self._load = load

    def expected_wait_s(self) -> float:
        """How long a job that came now would wait while no slot is idle: the work ahead of it, shared by the slots.

        A running job is on average half done, so half of what it was expected to take is still ahead.
        """
        ahead_s = self._queue.expected_s + self._load.running_expected_s / 2
        return ahead_s / max(self._load.present_slots, 1)

    def refusal(self, now: float, *, size_bytes: int, budget_s: float | None) -> Refusal | None:
        """Why a job of `size_bytes` with `budget_s` left may not wait; None if it may."""
        load = self._load
        if load.drain_ends_at is not None:
            return Refusal(reason=Reason.DRAINING, retry_after_s=whole_seconds(load.drain_ends_at - now), facts={})
        if not load.present_slots and (load.is_failing_to_start or not load.was_ever_ready):
            return Refusal(reason=Reason.STARTING, retry_after_s=1, facts={})
        wait_s = self.expected_wait_s()
        if self._queue.has_room(size_bytes) and (budget_s is None or wait_s <= budget_s):
            return None
        facts = {"queued": len(self._queue), "expected_wait_s": round(wait_s, 3)}
        return Refusal(reason=Reason.OVERLOADED, retry_after_s=whole_seconds(wait_s), facts=facts)

    def expect(self, job: Job) -> None:
        """Writes onto the job what it is expected to take."""
        job.expected_s = self.run_times.expected_s(job.limits.index)


def whole_seconds(seconds: float) -> int:
    """For `Retry-After`: rounded up, at least 1 (RFC 9110, section 10.2.3 has whole seconds only)."""
    return max(1, math.ceil(seconds))
