"""The bytes of bodies that are arriving and of results that are being sent.

Clients may be slow at both ends, and what they have not sent or taken yet stays in memory. So it counts against the
same limit as the bodies of waiting jobs.
"""

from __future__ import annotations

from offload.core.queue.job_queue import JobQueue


class Traffic:
    """`size_bytes` is the sum of both directions."""

    def __init__(self, queue: JobQueue) -> None:
        self.size_bytes = 0
        self.leaving_bytes = 0
        self._queue = queue

    @property
    def arriving_bytes(self) -> int:
        return self.size_bytes - self.leaving_bytes

    def body_grows(self, size_bytes: int, *, to_bytes: int) -> bool:
        """Count more bytes of a body, `to_bytes` by now. Returns whether there is room for it.

        As in the queue, a single body larger than the whole limit may arrive alone.
        """
        self.size_bytes += size_bytes
        return self._queue.has_room_for_bytes(to_bytes, besides_bytes=self.size_bytes - to_bytes)

    def body_has_arrived(self, size_bytes: int) -> None:
        """The body waits with its job now, or was given up."""
        self.size_bytes -= size_bytes

    def result_leaves(self, size_bytes: int) -> None:
        self.size_bytes += size_bytes
        self.leaving_bytes += size_bytes

    def result_has_left(self, size_bytes: int) -> None:
        self.size_bytes -= size_bytes
        self.leaving_bytes -= size_bytes
