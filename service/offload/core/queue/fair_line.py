"""The waiting jobs of one urgency, shared fairly: between callers, and between the tasks of each of them.

Whose turn it is says deficit round robin (Shreedhar and Varghese, 1995), weighted by expected run time, so that one
with ten thousand long jobs holds up another's three short ones by one job at most.  Jobs of one caller and one task are
served as they came.  Lives here: who waits with whom; `turns` has the round robin.  `queue` has a line an urgency.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from typing import Final

from offload.core.job import Job
from offload.core.queue.gates import Gates
from offload.core.queue.turns import TURN_S, Turns
from offload.core.queue.work import Work
from offload.core.run_times import RunTimes

# Whatever a job is expected to take, handing it to a worker costs something.
_LEAST_COST_S: Final = 0.0001


class _Lane:
    """One caller's jobs of one task, as they came."""

    __slots__ = ("credit_s", "gates", "jobs", "run_times")

    def __init__(self, gates: Gates, run_times: RunTimes) -> None:
        self.credit_s = 0.0
        self.gates = gates
        self.run_times = run_times
        self.jobs: OrderedDict[Job, None] = OrderedDict()  # a dict would look for its head among what is gone

    def first(self) -> Job | None:
        job = next(iter(self.jobs))
        return job if self.gates.is_open(job.limits) else None

    def work_s(self) -> float:
        return len(self.jobs) * self.run_times.expected_s(next(iter(self.jobs)).limits.index)


class _Caller:
    """One caller's jobs, in a lane for each task."""

    __slots__ = ("client", "credit_s", "gates", "lanes", "length")

    def __init__(self, client: str, gates: Gates, lanes: Turns[int, _Lane]) -> None:
        self.credit_s = 0.0
        self.client = client
        self.gates = gates
        self.lanes = lanes
        self.length = 0

    def first(self) -> Job | None:
        return self.lanes.first() if self.gates.is_open_for(self.client) else None

    def ahead_s(self, index: int, cost_s: float, without: Collection[int]) -> float:
        """Of this caller's work, what goes before one more job of the task: no more of each other's than of its own."""
        own = self.lanes.members.get(index)
        if own is None and cost_s <= TURN_S:
            return 0.0  # it has its turn at once
        own_s = cost_s if own is None else cost_s + own.work_s()
        others = [lane for other, lane in self.lanes.members.items() if other not in without or other == index]
        turns = len(others) + (own is None)
        return min(sum(lane.work_s() for lane in others), own_s * turns - cost_s)


class FairLine:
    def __init__(self, gates: Gates, run_times: RunTimes) -> None:
        self.work = Work()
        self._gates = gates
        self._run_times = run_times
        self._order: OrderedDict[Job, None] = OrderedDict()
        self._callers: Turns[str, _Caller] = Turns(self._cost_s)

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._order)

    def __contains__(self, job: object) -> bool:
        return job in self._order

    def oldest(self) -> Job | None:
        return next(iter(self._order), None)

    def newest(self) -> Job | None:
        return next(reversed(self._order), None)

    def length_of(self, client: str) -> int:
        """How many jobs of this caller wait here."""
        caller = self._callers.members.get(client)
        return 0 if caller is None else caller.length

    def lengths(self) -> Iterator[tuple[str, int]]:
        """How many jobs wait of each caller."""
        return ((client, caller.length) for client, caller in self._callers.members.items())

    def newest_of_longest(self, more_than: int) -> Job | None:
        """The newest job of the caller who has most of them here, if that is more than so many."""
        callers = self._callers.members
        if len(self._order) < len(callers) + more_than:
            return None  # then nobody can have so many; it spares a look at many callers with a job each
        most = max(caller.length for caller in callers.values())
        if most <= more_than:
            return None
        longest = (caller for caller in callers.values() if caller.length == most)
        newest = (next(reversed(lane.jobs)) for caller in longest for lane in caller.lanes.members.values())
        return max(newest, key=lambda job: job.number)

    def ahead_s(self, client: str, index: int | None, cost_s: float, without: Collection[int]) -> float:
        """The work that goes before one more job of this caller and task: no more of each other's than of its own.

        All of it where no task is named.  `without` these tasks, its own excepted.
        """
        total_s = self.work.expected_s(self._run_times, without=without)
        if index is None:
            return total_s
        caller = self._callers.members.get(client)
        if caller is None and cost_s <= TURN_S:
            return 0.0
        own_s = cost_s if caller is None else cost_s + caller.ahead_s(index, cost_s, without)
        turns = len(self._callers.members) + (caller is None)
        return min(total_s, own_s * turns - cost_s)

    def first(self) -> Job | None:
        """Whose turn it is, of those that may run; the same until something changes."""
        return self._callers.first()

    def push(self, job: Job) -> None:
        self._order[job] = None
        self.work.add(job)
        caller = self._callers.members.get(job.client)
        if caller is None:
            caller = _Caller(job.client, self._gates, Turns(self._cost_s))
            self._callers.join(job.client, caller)
        caller.length += 1
        lane = caller.lanes.members.get(job.limits.index)
        if lane is None:
            lane = _Lane(self._gates, self._run_times)
            caller.lanes.join(job.limits.index, lane)
        lane.jobs[job] = None

    def take_turn(self, job: Job) -> None:
        """Takes the job out, because it is its turn: its caller and its task pay for it."""
        self._callers.pay(job.client, job)
        self._callers.members[job.client].lanes.pay(job.limits.index, job)
        self.remove(job)

    def remove(self, job: Job) -> None:
        """Takes the job out, at no cost.  Raises KeyError if it does not wait here."""
        del self._order[job]
        self.work.subtract(job)
        callers = self._callers.members
        caller = callers[job.client]
        lane = caller.lanes.members[job.limits.index]
        del lane.jobs[job]
        if not lane.jobs:
            del caller.lanes.members[job.limits.index]
        caller.length -= 1
        if not caller.length:
            del callers[job.client]

    def _cost_s(self, job: Job) -> float:
        return max(self._run_times.expected_s(job.limits.index), _LEAST_COST_S)

    def check_invariants(self) -> None:
        waiting: list[Job] = []
        for client, caller in self._callers.members.items():
            lanes = caller.lanes.members
            assert caller.length == sum(len(lane.jobs) for lane in lanes.values()), "a caller's count is wrong"
            for index, lane in lanes.items():
                assert lane.jobs, "an empty lane was kept"
                assert all(job.client == client and job.limits.index == index for job in lane.jobs), "a wrong lane"
                waiting += lane.jobs
        assert len(waiting) == len(self._order), "a job waits in no lane, or in two"
        assert set(waiting) == set(self._order), "a job waits in no lane"
        self.work.check_is_of(self._order)
