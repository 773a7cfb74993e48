"""The worker's side of large bodies and results, which travel as shared memory instead of through the stream.

`wire.shared_bytes` is the memory, `wire.passing` sends its descriptor.
"""

from __future__ import annotations

import mmap
import socket
from contextlib import suppress

from offload.wire.passing import receive_descriptor, send_descriptor
from offload.wire.shared_bytes import SharedBytes, shared


class LargeBody:
    """The body of one job. `is_last`: no other attempt needs it once this job has begun."""

    __slots__ = ("_is_last", "_mapping", "_shared", "_view")

    def __init__(self, body: SharedBytes, *, is_last: bool) -> None:
        self._shared = body
        self._is_last = is_last
        self._mapping: mmap.mmap | None = None
        self._view: memoryview | None = None

    def __len__(self) -> int:
        return len(self._shared)

    def contents(self, *, as_copy: bool) -> bytes | memoryview:
        """Returns the body of a job that has begun: a copy, or a read-only view that is valid until `release`.

        With a copy, the shared memory is freed at once if `is_last`.
        """
        if as_copy:
            data = self._shared.read(0, len(self._shared))
            self._use_up()
            return data
        self._mapping = self._shared.map()
        self._view = memoryview(self._mapping)
        return self._view

    def release(self) -> None:
        """Release the body when the job has finished or will not begin here. May be called twice.

        A view that the task keeps stays valid; its memory is freed with the view.
        """
        view, self._view = self._view, None
        mapping, self._mapping = self._mapping, None
        with suppress(BufferError):
            if view is not None and mapping is not None:
                view.release()
                mapping.close()
                self._use_up()
        self._shared.close()

    def _use_up(self) -> None:
        """Free the memory now, in this process; otherwise the event loop might, by closing the last descriptor."""
        if self._is_last:
            with suppress(OSError):
                self._shared.use_up()


def receive_body(sock: socket.socket, number: int, size_bytes: int, *, is_last: bool) -> LargeBody:
    """Returns the body that the service sent for this job. Raises FrameError, OSError."""
    return LargeBody(SharedBytes(receive_descriptor(sock, number), size_bytes), is_last=is_last)


def send_result(sock: socket.socket | None, number: int, body: bytes | bytearray | memoryview) -> bool:
    """Send the job's result as shared memory. Returns False if it must go through the stream."""
    result = None if sock is None else shared(body, is_final=True)
    if sock is None or result is None:
        return False
    try:
        return send_descriptor(sock, number, result.fileno())
    finally:
        result.close()
