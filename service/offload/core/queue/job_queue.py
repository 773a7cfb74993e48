"""The bounded queue of jobs that wait for a slot.

Lives here: the order in which waiting jobs are served, who is pushed out for whom, and the count of what waits.  It
refuses nothing by itself: `admission` looks at `has_room` first.  The scheduler is its only caller.

Strict between urgencies (RFC 9218, 0 first), fair between callers and tasks of one.  So that nobody waits for ever,
every eighth start goes to a less urgent line whose oldest job has waited for long.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from typing import Final

from offload.core.job import Job
from offload.core.queue.fair_line import FairLine
from offload.core.queue.gates import Gates
from offload.core.queue.work import Work
from offload.core.request import URGENCIES, TaskLimits
from offload.core.run_times import RunTimes

# After this wait a job is old.  Urgent jobs keep seven eighths of the slots, however many old ones there are.
AGED_S: Final = 5.0
AGED_EVERY: Final = 8


class JobQueue:
    """`limit` in jobs, `limit_bytes` in the bytes of their bodies.  Adding and removing take constant time.  `changes`
    counts both, for whoever remembers what the queue was like.  `length` is for those who ask for every job."""

    def __init__(self, *, limit: int, limit_bytes: int, gates: Gates, run_times: RunTimes) -> None:
        self.limit = limit
        self.limit_bytes = limit_bytes
        self.returned_work = Work()
        self._gates = gates
        self._run_times = run_times
        self._lines = tuple(FairLine(gates, run_times) for _ in range(URGENCIES))
        self._busy: list[int] = []  # the urgencies of which somebody waits, in order
        self._returned: OrderedDict[Job, None] = OrderedDict()
        self.size_bytes = 0
        self.changes = 0
        self.length = 0
        self._turn = 0
        self._gated: dict[int, TaskLimits] = {}  # the tasks that may not use all slots, by their index

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Job]:
        """All that wait; those that had their turn before come first, then by urgency, then as they came."""
        return chain(self._returned, *self._lines)

    def __contains__(self, job: Job) -> bool:
        return job in self._returned or job in self._lines[job.urgency]

    def lengths(self) -> list[int]:
        """How many jobs of each urgency wait, those left out that had their turn before."""
        return [len(line) for line in self._lines]

    def lengths_by_client(self) -> Counter[str]:
        """How many jobs of each caller wait, those left out that had their turn before."""
        lengths: Counter[str] = Counter()
        for line in self._lines:
            for client, length in line.lengths():
                lengths[client] += length
        return lengths

    def lengths_by_task(self) -> Counter[int]:
        """How many jobs of each task wait, by its index."""
        lengths: Counter[int] = Counter()
        for work in (self.returned_work, *(line.work for line in self._lines)):
            lengths.update(work.counts)
        return lengths

    def length_of_client(self, client: str) -> int:
        return sum(line.length_of(client) for line in self._lines)

    def length_of_task(self, index: int) -> int:
        return sum(work.counts.get(index, 0) for work in (self.returned_work, *(line.work for line in self._lines)))

    # Room

    def has_room(self, size_bytes: int, *, besides_bytes: int = 0) -> bool:
        """Whether one more job of `size_bytes` may wait, with so many bytes elsewhere that count as well.

        A single job larger than the whole limit may wait alone.
        """
        return self.length < self.limit and self.has_room_for_bytes(size_bytes, besides_bytes=besides_bytes)

    def has_room_for_bytes(self, size_bytes: int, *, besides_bytes: int) -> bool:
        held_bytes = self.size_bytes + besides_bytes
        return not held_bytes or held_bytes + size_bytes <= self.limit_bytes

    def displaceable(self, *, urgency: int, client: str, size_bytes: int, besides_bytes: int = 0) -> Job | None:
        """The job that has to go for one that comes, None if there is none: then the one that comes has.

        The newest of the least urgent; and if none is less urgent, the newest of the caller with the most jobs, if
        those are so many more that the two do not change places.
        """
        victim = next((line.newest() for line in reversed(self._lines[urgency + 1 :]) if line), None)
        if victim is None:
            line = self._lines[urgency]
            victim = line.newest_of_longest(line.length_of(client) + 1)
        if victim is None or self.length > self.limit:
            return None
        left_bytes = self.size_bytes + besides_bytes - victim.size_bytes
        return victim if not left_bytes or left_bytes + size_bytes <= self.limit_bytes else None

    # Coming and going

    def push(self, job: Job) -> None:
        line = self._lines[job.urgency]
        if not line:
            insort(self._busy, job.urgency)
        line.push(job)
        self._added(job)
        if job.limits.max_running:
            self._gated[job.limits.index] = job.limits

    def push_back(self, job: Job) -> None:
        """A job that had its turn, and lost its worker or its place: served before all others, without a limit."""
        self._returned[job] = None
        self.returned_work.add(job)
        self._added(job)

    def first(self, now: float) -> Job | None:
        """The next to be served, which stays; None when nobody waits who may run."""
        if not self.length:
            return None
        for job in self._returned:
            if self._gates.may_run(job.limits, job.client):
                return job
        lines = [self._lines[urgency] for urgency in self._busy]
        shut = {index for index, limits in self._gated.items() if not self._gates.is_open(limits)}
        if shut:
            lines = [line for line in lines if not shut.issuperset(line.work.counts)]
        if self._turn % AGED_EVERY == AGED_EVERY - 1 and (aged := self._aged(lines[1:], now)) is not None:
            return aged
        for line in lines:
            first = line.first()
            if first is not None:
                return first
        return None

    def take_turn(self, job: Job) -> None:
        """Takes out what `first` has found, because it is its turn."""
        if job in self._returned:
            self.remove(job)
            return
        self._lines[job.urgency].take_turn(job)
        self._left_line(job)
        self._turn += 1

    def remove(self, job: Job) -> None:
        """Takes a waiting job out.  Raises KeyError if it does not wait here."""
        if job in self._returned:
            del self._returned[job]
            self.returned_work.subtract(job)
            self._removed(job)
        else:
            self._lines[job.urgency].remove(job)
            self._left_line(job)

    def _left_line(self, job: Job) -> None:
        if not self._lines[job.urgency]:
            self._busy.remove(job.urgency)
        self._removed(job)

    def _added(self, job: Job) -> None:
        self.length += 1
        self.changes += 1
        self.size_bytes += job.size_bytes

    def _removed(self, job: Job) -> None:
        self.length -= 1
        self.changes += 1
        self.size_bytes -= job.size_bytes

    # What goes before

    def ahead_s(
        self, *, urgency: int, client: str, index: int | None, cost_s: float, without: Collection[int] = ()
    ) -> float:
        """The work that would go before one more job, seconds of one slot; `without` other jobs of these tasks.

        `index` is its task's; None for all that waits up to this urgency.
        """
        ahead_s = self.returned_work.expected_s(self._run_times, without=without)
        for more_urgent in self._busy:
            if more_urgent < urgency:
                ahead_s += self._lines[more_urgent].work.expected_s(self._run_times, without=without)
        return ahead_s + self._lines[urgency].ahead_s(client, index, cost_s, without)

    def gated(self, urgency: int) -> Iterator[tuple[TaskLimits, int]]:
        """The tasks that may not use all slots, and how many jobs of each wait up to this urgency."""
        for index, limits in self._gated.items():
            count = sum(line.work.counts.get(index, 0) for line in self._lines[: urgency + 1])
            if count:
                yield limits, count

    def _aged(self, lines: Sequence[FairLine], now: float) -> Job | None:
        """The next of a line whose oldest job has waited for long; of several lines each has its turn."""
        aged = [line for line in lines if (oldest := line.oldest()) is not None and now - oldest.submitted_at > AGED_S]
        for place in range(len(aged)):
            job = aged[(self._turn // AGED_EVERY + place) % len(aged)].first()
            if job is not None:
                return job
        return None

    def check_invariants(self) -> None:
        """Raises AssertionError."""
        assert self.length == len(list(self)), "the queue's length is wrong"
        assert self.size_bytes == sum(job.size_bytes for job in self), "the queue's bytes are wrong"
        self.returned_work.check_is_of(self._returned)
        assert self._busy == [urgency for urgency, line in enumerate(self._lines) if line], "a busy line is overlooked"
        for urgency, line in enumerate(self._lines):
            line.check_invariants()
            assert all(job.urgency == urgency for job in line), "a job waits in the line of another urgency"
