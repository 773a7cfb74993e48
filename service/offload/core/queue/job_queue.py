"""The bounded queue of jobs that wait for a slot.

It orders the waiting jobs, counts them, and says which one a more important job displaces. It rejects nothing itself:
admission asks `has_room` first.

Urgencies are strict (RFC 9218, 0 first), and within one urgency clients and tasks are served fairly. So that no job
waits forever, every eighth start goes to a less urgent job if one has waited for `AGED_S`.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from typing import Final

from offload.core.job import Job
from offload.core.queue.fair_queue import FairQueue
from offload.core.queue.running_limits import RunningLimits
from offload.core.queue.work import Work
from offload.core.request import URGENCIES, TaskLimits
from offload.core.run_times import RunTimes

# A job that has waited longer is aged. Urgent jobs keep seven eighths of the slots, however many aged ones there are.
AGED_S: Final = 5.0
AGED_EVERY: Final = 8


class JobQueue:
    """`limit` in jobs, `limit_bytes` in bytes of their bodies. Adding and removing take constant time.

    `changes` counts both. `length` is `len()` without the call. `returned_work` is that of the jobs that came back from
    a slot.
    """

    def __init__(self, *, limit: int, limit_bytes: int, running_limits: RunningLimits, run_times: RunTimes) -> None:
        self.limit = limit
        self.limit_bytes = limit_bytes
        self.returned_work = Work()
        self._running_limits = running_limits
        self._run_times = run_times
        self._queues = tuple(FairQueue(running_limits, run_times) for _ in range(URGENCIES))  # by urgency
        self._nonempty: list[int] = []  # the urgencies with waiting jobs, in order
        self._returned: OrderedDict[Job, None] = OrderedDict()
        self.size_bytes = 0
        self.changes = 0
        self.length = 0
        self._turns = 0
        self._limited: dict[int, TaskLimits] = {}  # the tasks with a limit on running jobs, by index

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Job]:
        """Yields all waiting jobs: those that came back from a slot, then by urgency, then by arrival."""
        return chain(self._returned, *self._queues)

    def __contains__(self, job: Job) -> bool:
        return job in self._returned or job in self._queues[job.urgency]

    def lengths(self) -> list[int]:
        """Returns how many jobs of each urgency wait, without those that came back from a slot."""
        return [len(queue) for queue in self._queues]

    def lengths_by_client(self) -> Counter[str]:
        """Returns how many jobs of each client wait, without those that came back from a slot."""
        lengths: Counter[str] = Counter()
        for queue in self._queues:
            for client, length in queue.lengths():
                lengths[client] += length
        return lengths

    def lengths_by_task(self) -> Counter[int]:
        """Returns how many jobs of each task wait, by task index."""
        lengths: Counter[int] = Counter()
        for work in (self.returned_work, *(queue.work for queue in self._queues)):
            lengths.update(work.counts)
        return lengths

    def length_of_client(self, client: str) -> int:
        return sum(queue.length_of(client) for queue in self._queues)

    def length_of_task(self, index: int) -> int:
        return sum(work.counts.get(index, 0) for work in (self.returned_work, *(queue.work for queue in self._queues)))

    # Room

    def has_room(self, size_bytes: int, *, besides_bytes: int = 0) -> bool:
        """Whether one more job of `size_bytes` may wait; `besides_bytes` elsewhere count as well.

        A single job larger than the whole limit may wait alone.
        """
        return self.length < self.limit and self.has_room_for_bytes(size_bytes, besides_bytes=besides_bytes)

    def has_room_for_bytes(self, size_bytes: int, *, besides_bytes: int) -> bool:
        held_bytes = self.size_bytes + besides_bytes
        return not held_bytes or held_bytes + size_bytes <= self.limit_bytes

    def displaceable(self, *, urgency: int, client: str, size_bytes: int, besides_bytes: int = 0) -> Job | None:
        """Returns the waiting job that a new one displaces, None if that would not make enough room.

        That is the newest of the least urgent. If none is less urgent, it is the newest of the client with most jobs,
        provided that it has at least two more than the new job's client, so that they do not displace each other.
        """
        victim = next((queue.newest() for queue in reversed(self._queues[urgency + 1 :]) if queue), None)
        if victim is None:
            queue = self._queues[urgency]
            victim = queue.newest_of_longest(queue.length_of(client) + 1)
        if victim is None or self.length > self.limit:
            return None
        left_bytes = self.size_bytes + besides_bytes - victim.size_bytes
        return victim if not left_bytes or left_bytes + size_bytes <= self.limit_bytes else None

    # Adding and removing

    def push(self, job: Job) -> None:
        queue = self._queues[job.urgency]
        if not queue:
            insort(self._nonempty, job.urgency)
        queue.push(job)
        self._added(job)
        if job.limits.max_running:
            self._limited[job.limits.index] = job.limits

    def push_back(self, job: Job) -> None:
        """Add a job that was in a slot and lost its worker or was withdrawn: served before all others, unlimited."""
        self._returned[job] = None
        self.returned_work.add(job)
        self._added(job)

    def first(self, now: float) -> Job | None:
        """Returns the next job to be served, which stays in the queue; None if no waiting job may run."""
        if not self.length:
            return None
        for job in self._returned:
            if self._running_limits.may_run(job.limits, job.client):
                return job
        queues = [self._queues[urgency] for urgency in self._nonempty]
        at_limit = {index for index, limits in self._limited.items() if not self._running_limits.allow_task(limits)}
        if at_limit:
            queues = [queue for queue in queues if not at_limit.issuperset(queue.work.counts)]
        if self._turns % AGED_EVERY == AGED_EVERY - 1 and (aged := self._aged(queues[1:], now)) is not None:
            return aged
        for queue in queues:
            first = queue.first()
            if first is not None:
                return first
        return None

    def take_turn(self, job: Job) -> None:
        """Remove the job that `first` returned, and charge its client and its task."""
        if job in self._returned:
            self.remove(job)
            return
        self._queues[job.urgency].take_turn(job)
        self._left_queue(job)
        self._turns += 1

    def remove(self, job: Job) -> None:
        """Remove a waiting job. Raises KeyError if it does not wait here."""
        if job in self._returned:
            del self._returned[job]
            self.returned_work.subtract(job)
            self._removed(job)
        else:
            self._queues[job.urgency].remove(job)
            self._left_queue(job)

    def _left_queue(self, job: Job) -> None:
        if not self._queues[job.urgency]:
            self._nonempty.remove(job.urgency)
        self._removed(job)

    def _added(self, job: Job) -> None:
        self.length += 1
        self.changes += 1
        self.size_bytes += job.size_bytes

    def _removed(self, job: Job) -> None:
        self.length -= 1
        self.changes += 1
        self.size_bytes -= job.size_bytes

    # The work ahead

    def ahead_s(
        self, *, urgency: int, client: str, index: int | None, cost_s: float, without: Collection[int] = ()
    ) -> float:
        """Returns the work that would go before one more job, seconds of one slot; `without` jobs of these tasks.

        `index` is the job's task; None for all that waits up to this urgency.
        """
        ahead_s = self.returned_work.expected_s(self._run_times, without=without)
        for more_urgent in self._nonempty:
            if more_urgent < urgency:
                ahead_s += self._queues[more_urgent].work.expected_s(self._run_times, without=without)
        return ahead_s + self._queues[urgency].ahead_s(client, index, cost_s, without)

    def limited(self, urgency: int) -> Iterator[tuple[TaskLimits, int]]:
        """Yields the tasks with a limit on running jobs, and how many jobs of each wait up to this urgency."""
        for index, limits in self._limited.items():
            count = sum(queue.work.counts.get(index, 0) for queue in self._queues[: urgency + 1])
            if count:
                yield limits, count

    def _aged(self, queues: Sequence[FairQueue], now: float) -> Job | None:
        """Returns the next job of a queue whose oldest job is aged; several such queues take turns."""
        aged = [queue for queue in queues if (job := queue.oldest()) is not None and now - job.submitted_at > AGED_S]
        for offset in range(len(aged)):
            first = aged[(self._turns // AGED_EVERY + offset) % len(aged)].first()
            if first is not None:
                return first
        return None

    def check_invariants(self) -> None:
        """Raises AssertionError."""
        assert self.length == len(list(self)), "the queue's length is wrong"
        assert self.size_bytes == sum(job.size_bytes for job in self), "the queue's bytes are wrong"
        self.returned_work.check_is_of(self._returned)
        assert self._nonempty == [urgency for urgency, queue in enumerate(self._queues) if queue], (
            "a queue is overlooked"
        )
        for urgency, queue in enumerate(self._queues):
            queue.check_invariants()
            assert all(job.urgency == urgency for job in queue), "a job waits in the queue of another urgency"
