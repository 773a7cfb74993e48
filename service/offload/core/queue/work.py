"""Waiting work by task, and how long it keeps slots busy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from itertools import pairwise

from offload.core.job import Job
from offload.core.run_times import RunTimes


class Work:
    """How many jobs of each task wait. Their run times are estimated anew at each question."""

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
        """Returns the work in seconds of one slot, `without` these tasks."""
        total_s = 0.0
        for index, count in self.counts.items():
            if index not in without:
                total_s += count * run_times.expected_s(index)
        return total_s

    def check_is_of(self, jobs: Iterable[Job]) -> None:
        """Raises AssertionError unless exactly these jobs were counted."""
        assert self.counts == Counter(job.limits.index for job in jobs), "the waiting work is counted wrong"


def wait_s(ahead_s: float, busy_s: Iterable[float]) -> float:
    """Returns after how many seconds one slot is free and has none of `ahead_s` left to do.

    `busy_s` is the remaining time of each slot's present job. The slots share the work as they become free, like
    water poured into a vessel with steps.
    """
    steps = sorted(busy_s)
    if not steps:
        return ahead_s  # assume one slot: there will be one, at an unknown time
    left_s = ahead_s
    for slots, (level, next_level) in enumerate(pairwise(steps), 1):
        holds_s = (next_level - level) * slots
        if left_s <= holds_s:
            return level + left_s / slots
        left_s -= holds_s
    return steps[-1] + left_s / len(steps)
