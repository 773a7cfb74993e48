"""The worker's side of large bodies and results, which do not come through the stream.

Lives here: what a task is given of such a body, how long it has it, and the sending of a large result.  `main` and
`inbox` call it; the memory itself is `shared_bytes`, and how it gets here `passing`.
"""

from __future__ import annotations

import mmap
import socket
from contextlib import suppress

from offload.wire.passing import receive_descriptor, send_descriptor
from offload.wire.shared_bytes import SharedBytes, shared


class LargeBody:
    """The body of one job.  `is_last`: nobody else will need it, once this job has begun."""

    __slots__ = ("_is_last", "_mapping", "_shared", "_view")

    def __init__(self, body: SharedBytes, *, is_last: bool) -> None:
        self._shared = body
        self._is_last = is_last
        self._mapping: mmap.mmap | None = None
        self._view: memoryview | None = None

    def __len__(self) -> int:
        return len(self._shared)

    def contents(self, *, as_copy: bool) -> bytes | memoryview:
        """All of it, for the job that has begun: as an object of its own, for one copy, and nothing is kept that can be
        given back; or as a read-only view until `release`."""
        if as_copy:
            data = self._shared.read(0, len(self._shared))
            self._use_up()
            return data
        self._mapping = self._shared.map()
        self._view = memoryview(self._mapping)
        return self._view

    def release(self) -> None:
        """The job is over, or never begins here.  May be called twice.

        A view that the task has kept stays as it is; its memory is free when the task lets go of it.
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
        """The memory is freed now, and here, not where the last descriptor is closed, which could be the event loop."""
        if self._is_last:
            with suppress(OSError):
                self._shared.use_up()


def receive_body(sock: socket.socket, number: int, size_bytes: int, *, is_last: bool) -> LargeBody:
    """The body that the service sent for this job.  Raises FrameError, OSError."""
    return LargeBody(SharedBytes(receive_descriptor(sock, number), size_bytes), is_last=is_last)


def send_result(sock: socket.socket | None, number: int, body: bytes | bytearray | memoryview) -> bool:
    """Puts the job's result into memory of its own, and sends that.  False: it has to go through the stream."""
    result = None if sock is None else shared(body, is_final=True)
    if sock is None or result is None:
        return False
    try:
        return send_descriptor(sock, number, result.fileno())
    finally:
        result.close()
