"""The bounded queue of jobs that wait for a slot.

Lives here: the order in which waiting jobs are served, and the count of what waits.  It refuses nothing by itself:
`admission` looks at `has_room` first.  The scheduler is its only caller.
"""

from __future__ import annotations

from collections.abc import Iterator

from offload.core.job import URGENCIES, Job


class JobQueue:
    """Strict between urgencies (RFC 9218, 0 first), first in first out within one; removal in constant time."""

    def __init__(self, *, limit: int, limit_bytes: int) -> None:
        self.limit = limit
        self.limit_bytes = limit_bytes
        self.size_bytes = 0
        self.expected_s = 0.0
        # A dict keeps insertion order and removes from the middle in constant time.  The head of each is served first.
        self._levels: tuple[dict[Job, None], ...] = tuple({} for _ in range(URGENCIES))
        self._returned: dict[Job, None] = {}
        self._lines = (self._returned, *self._levels)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Job]:
        for line in self._lines:
            yield from line

    def __contains__(self, job: Job) -> bool:
        return job in self._returned or job in self._levels[job.urgency]

    def has_room(self, size_bytes: int) -> bool:
        """Whether one more job of `size_bytes` may wait.  A single job larger than the whole limit may wait alone."""
        if self._length >= self.limit:
            return False
        return self._length == 0 or self.size_bytes + size_bytes <= self.limit_bytes

    def push(self, job: Job) -> None:
        self._levels[job.urgency][job] = None
        self._added(job)

    def push_back(self, job: Job) -> None:
        """A job that had its turn, and lost its worker or its place: served before all others, without a limit."""
        self._returned[job] = None
        self._added(job)

    def first(self) -> Job | None:
        """The next to be served, which stays; None when nobody waits."""
        if self._length:
            for line in self._lines:
                for job in line:
                    return job
        return None

    def pop(self) -> Job | None:
        """The next to be served, None when nobody waits."""
        if not self._length:
            return None
        for line in self._lines:
            for job in line:
                del line[job]
                self._removed(job)
                return job
        raise AssertionError(f"the queue counts {self._length} jobs and holds none")

    def remove(self, job: Job) -> None:
        """Takes a waiting job out.  Raises KeyError if it does not wait here."""
        line = self._returned if job in self._returned else self._levels[job.urgency]
        del line[job]
        self._removed(job)

    def _added(self, job: Job) -> None:
        self._length += 1
        self.size_bytes += job.size_bytes
        self.expected_s += job.expected_s

    def _removed(self, job: Job) -> None:
        self._length -= 1
        self.size_bytes -= job.size_bytes
        # An empty queue holds no work: said outright, so that rounding errors do not add up over a million jobs.
        self.expected_s = self.expected_s - job.expected_s if self._length else 0.0
