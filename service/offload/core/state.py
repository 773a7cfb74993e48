"""The plain counters and flags that the scheduler keeps."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from offload.core.job import JobState


@dataclass(slots=True, kw_only=True)
class Load:
    """What admission considers besides the queue.

    `present_slots` counts the slots with a worker. `drain_ends_at` is a monotonic instant, None unless the service
    drains.
    """

    present_slots: int = 0
    was_ever_ready: bool = False
    is_failing_to_start: bool = False
    drain_ends_at: float | None = None


@dataclass(slots=True, kw_only=True)
class Tally:
    """How many jobs were submitted and how many are running; those that have ended, by final state."""

    submitted: int = 0
    running: int = 0
    ended: Counter[JobState] = field(default_factory=Counter)

    def check_balance(self, *, queued: int) -> None:
        """Raises AssertionError unless each submitted job has ended, waits or runs. Takes constant time."""
        accounted = sum(self.ended.values()) + queued + self.running
        assert self.submitted == accounted, f"{self.submitted} jobs submitted, {accounted} accounted for"
