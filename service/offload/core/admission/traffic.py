"""Bytes on their way: of bodies that arrive, and of results that leave.

Callers are as slow as they like, at both ends, and what they have not sent or taken yet stands in memory.  So it counts
against the same limit as the bodies of waiting jobs.  Lives here: the two sums.  `dispatch` keeps them true.
"""

from __future__ import annotations

from offload.core.queue.job_queue import JobQueue


class Traffic:
    """`size_bytes` is what leaves and what arrives together."""

    def __init__(self, queue: JobQueue) -> None:
        self.size_bytes = 0
        self.leaving_bytes = 0
        self._queue = queue

    @property
    def arriving_bytes(self) -> int:
        return self.size_bytes - self.leaving_bytes

    def body_grows(self, size_bytes: int, *, to_bytes: int) -> bool:
        """So many more bytes have come of one body, `to_bytes` by now.  False if there is no room for it.

        As in the queue, a body that is larger than the whole limit may be there alone.
        """
        self.size_bytes += size_bytes
        return self._queue.has_room_for_bytes(to_bytes, besides_bytes=self.size_bytes - to_bytes)

    def body_has_arrived(self, size_bytes: int) -> None:
        """Or was given up: it waits with its job now, or is gone."""
        self.size_bytes -= size_bytes

    def result_leaves(self, size_bytes: int) -> None:
        self.size_bytes += size_bytes
        self.leaving_bytes += size_bytes

    def result_has_left(self, size_bytes: int) -> None:
        self.size_bytes -= size_bytes
        self.leaving_bytes -= size_bytes
