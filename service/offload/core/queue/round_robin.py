"""Deficit round robin: members are served in turn, and each turn is worth the same run time.

A member whose next job costs more than its credit saves up for it, one turn at a time.

Source: M. Shreedhar, G. Varghese, "Efficient fair queueing using deficit round robin", SIGCOMM 1995.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from math import inf
from typing import Final, Generic, Protocol, TypeVar

from offload.core.job import Job

# What a turn is worth. Less means more turns for each job; more lets members with tiny jobs wait for each other's.
TURN_S: Final = 0.01


class Member(Protocol):
    """`credit_s` is the run time that the member may use; `RoundRobin` keeps it."""

    credit_s: float

    def first(self) -> Job | None:
        """Returns the member's next job, None if none of its jobs may run now."""


K = TypeVar("K", bound=Hashable)
M = TypeVar("M", bound=Member)


class RoundRobin(Generic[K, M]):
    """`members` by key, the next to be served first. `cost_s` returns the run time that a job is expected to take."""

    def __init__(self, cost_s: Callable[[Job], float]) -> None:
        self.members: OrderedDict[K, M] = OrderedDict()
        self._cost_s = cost_s

    def join(self, key: K, member: M) -> None:
        """Add a member, which is served next: one that asks for little should not wait for one that asks for much."""
        member.credit_s = TURN_S
        self.members[key] = member
        self.members.move_to_end(key, last=False)

    def first(self) -> Job | None:
        """Returns the job to be served next; the same until something changes."""
        members = self.members
        if len(members) == 1:
            (only,) = members.values()
            return only.first()
        while True:
            missing_s = inf
            for _ in range(len(members)):
                key, member = next(iter(members.items()))
                job = member.first()
                if job is None:
                    member.credit_s = 0.0  # a limit on running jobs must not let a member save up
                else:
                    short_s = self._cost_s(job) - member.credit_s
                    if short_s <= 0:
                        return job
                    member.credit_s += TURN_S
                    missing_s = min(missing_s, short_s - TURN_S)
                members.move_to_end(key)
            if missing_s is inf:
                return None
            if missing_s > 0:  # skip the rounds in which no member would have enough credit
                for member in members.values():
                    member.credit_s += missing_s

    def pay(self, key: K, job: Job) -> None:
        """Charge the member for a job that is served. A member that was alone keeps no debt."""
        member = self.members[key]
        member.credit_s = max(0.0, member.credit_s - self._cost_s(job))
