"""Work that waits, and how long it keeps slots busy.

Lives here: waiting work, counted by task, so that it is always worth what is known of the tasks by now; and the
arithmetic of sharing it among slots.  The queue counts with it; admission asks how long a wait it makes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from itertools import pairwise

from offload.core.job import Job
from offload.core.run_times import RunTimes


class Work:
    """How many jobs of each task: work that is counted anew with what is known of the tasks today."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def add(self, job: Job) -> None:
        index = job.limits.index
        self.counts[index] = self.counts.get(index, 0) + 1

    def subtract(self, job: Job) -> None:
        index = job.limits.index
        count = self.counts[index] - 1
        if count:
            self.counts[index] = count
        else:
            del self.counts[index]

    def expected_s(self, run_times: RunTimes, *, without: Collection[int] = ()) -> float:
        """Seconds of one slot; `without` these tasks."""
        total_s = 0.0
        for index, count in self.counts.items():
            if index not in without:
                total_s += count * run_times.expected_s(index)
        return total_s

    def check_is_of(self, jobs: Iterable[Job]) -> None:
        """Raises AssertionError if it is other work than these jobs'."""
        assert self.counts == Counter(job.limits.index for job in jobs), "the work that waits is counted wrong"


def wait_s(ahead_s: float, busy_s: Iterable[float]) -> float:
    """How long until one slot is free and has nothing of `ahead_s` to do any more, seconds.

    `busy_s`: for each slot, how long its present job goes on.  The slots share the work as they become free: the level
    of water that is poured into a vessel with steps.
    """
    steps = sorted(busy_s)
    if not steps:
        return ahead_s  # as if one slot were there: it will be, and nobody knows when
    left_s = ahead_s
    for slots, (level, next_level) in enumerate(pairwise(steps), 1):
        holds_s = (next_level - level) * slots
        if left_s <= holds_s:
            return level + left_s / slots
        left_s -= holds_s
    return steps[-1] + left_s / len(steps)
