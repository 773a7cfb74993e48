"""The waiting jobs of one urgency, shared fairly between clients and between the tasks of each client.

Deficit round robin weighted by expected run time decides who is next, so that a client with ten thousand long jobs
delays another's three short ones by one job at most. Jobs of one client and one task are served in order of arrival.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from typing import Final

from offload.core.job import Job
from offload.core.queue.round_robin import TURN_S, RoundRobin
from offload.core.queue.running_limits import RunningLimits
from offload.core.queue.work import Work
from offload.core.run_times import RunTimes

# Handing a job to a worker costs something, whatever the job is expected to take.
_LEAST_COST_S: Final = 0.0001


class _TaskQueue:
    """One client's jobs of one task, in order of arrival."""

    __slots__ = ("credit_s", "jobs", "run_times", "running_limits")

    def __init__(self, running_limits: RunningLimits, run_times: RunTimes) -> None:
        self.credit_s = 0.0
        self.running_limits = running_limits
        self.run_times = run_times
        self.jobs: OrderedDict[Job, None] = OrderedDict()  # a dict would search past removed entries for its first

    def first(self) -> Job | None:
        job = next(iter(self.jobs))
        return job if self.running_limits.allow_task(job.limits) else None

    def work_s(self) -> float:
        return len(self.jobs) * self.run_times.expected_s(next(iter(self.jobs)).limits.index)


class _ClientQueue:
    """One client's jobs, in a queue for each task."""

    __slots__ = ("client", "credit_s", "length", "running_limits", "tasks")

    def __init__(self, client: str, running_limits: RunningLimits, tasks: RoundRobin[int, _TaskQueue]) -> None:
        self.credit_s = 0.0
        self.client = client
        self.running_limits = running_limits
        self.tasks = tasks
        self.length = 0

    def first(self) -> Job | None:
        return self.tasks.first() if self.running_limits.allow_client(self.client) else None

    def ahead_s(self, index: int, cost_s: float, without: Collection[int]) -> float:
        """Returns the work of this client that goes before one more job of the task: from each other task, at most as
        much as its own task has."""
        own = self.tasks.members.get(index)
        if own is None and cost_s <= TURN_S:
            return 0.0  # it is served at once
        own_s = cost_s if own is None else cost_s + own.work_s()
        tasks = [task for other, task in self.tasks.members.items() if other not in without or other == index]
        turns = len(tasks) + (own is None)
        return min(sum(task.work_s() for task in tasks), own_s * turns - cost_s)


class FairQueue:
    def __init__(self, running_limits: RunningLimits, run_times: RunTimes) -> None:
        self.work = Work()
        self._running_limits = running_limits
        self._run_times = run_times
        self._order: OrderedDict[Job, None] = OrderedDict()
        self._clients: RoundRobin[str, _ClientQueue] = RoundRobin(self._cost_s)

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
        """Returns how many jobs of this client wait here."""
        queue = self._clients.members.get(client)
        return 0 if queue is None else queue.length

    def lengths(self) -> Iterator[tuple[str, int]]:
        """Yields (client, number of waiting jobs)."""
        return ((client, queue.length) for client, queue in self._clients.members.items())

    def newest_of_longest(self, more_than: int) -> Job | None:
        """Returns the newest job of the client with most jobs here, None unless those are more than `more_than`."""
        clients = self._clients.members
        if len(self._order) < len(clients) + more_than:
            return None  # no client can have so many; this spares a look at many clients with one job each
        most = max(queue.length for queue in clients.values())
        if most <= more_than:
            return None
        longest = (queue for queue in clients.values() if queue.length == most)
        newest = (next(reversed(task.jobs)) for queue in longest for task in queue.tasks.members.values())
        return max(newest, key=lambda job: job.number)

    def ahead_s(self, client: str, index: int | None, cost_s: float, without: Collection[int]) -> float:
        """Returns the work that goes before one more job of this client and task: from each other client, at most as
        much as the client's own.

        All work here if `index` is None. `without` the work of these tasks, its own excepted.
        """
        total_s = self.work.expected_s(self._run_times, without=without)
        if index is None:
            return total_s
        queue = self._clients.members.get(client)
        if queue is None and cost_s <= TURN_S:
            return 0.0
        own_s = cost_s if queue is None else cost_s + queue.ahead_s(index, cost_s, without)
        turns = len(self._clients.members) + (queue is None)
        return min(total_s, own_s * turns - cost_s)

    def first(self) -> Job | None:
        """Returns the next job of those that may run; the same until something changes."""
        return self._clients.first()

    def push(self, job: Job) -> None:
        self._order[job] = None
        self.work.add(job)
        queue = self._clients.members.get(job.client)
        if queue is None:
            queue = _ClientQueue(job.client, self._running_limits, RoundRobin(self._cost_s))
            self._clients.join(job.client, queue)
        queue.length += 1
        task = queue.tasks.members.get(job.limits.index)
        if task is None:
            task = _TaskQueue(self._running_limits, self._run_times)
            queue.tasks.join(job.limits.index, task)
        task.jobs[job] = None

    def take_turn(self, job: Job) -> None:
        """Remove the job that is served, and charge its client and its task."""
        self._clients.pay(job.client, job)
        self._clients.members[job.client].tasks.pay(job.limits.index, job)
        self.remove(job)

    def remove(self, job: Job) -> None:
        """Remove a job at no charge. Raises KeyError if it does not wait here."""
        del self._order[job]
        self.work.subtract(job)
        clients = self._clients.members
        queue = clients[job.client]
        task = queue.tasks.members[job.limits.index]
        del task.jobs[job]
        if not task.jobs:
            del queue.tasks.members[job.limits.index]
        queue.length -= 1
        if not queue.length:
            del clients[job.client]

    def _cost_s(self, job: Job) -> float:
        return max(self._run_times.expected_s(job.limits.index), _LEAST_COST_S)

    def check_invariants(self) -> None:
        """Raises AssertionError."""
        waiting: list[Job] = []
        for client, queue in self._clients.members.items():
            tasks = queue.tasks.members
            assert queue.length == sum(len(task.jobs) for task in tasks.values()), "a client's count is wrong"
            for index, task in tasks.items():
                assert task.jobs, "an empty task queue was kept"
                assert all(job.client == client and job.limits.index == index for job in task.jobs), "a wrong queue"
                waiting += task.jobs
        assert len(waiting) == len(self._order), "a job waits in no task queue, or in two"
        assert set(waiting) == set(self._order), "a job waits in no task queue"
        self.work.check_is_of(self._order)
