"""The service's end of a worker's channel: frames in and out on the event loop.

The stream is cut into frames without copying large bodies: each is received into a buffer of its own size. A frame that
no worker would send ends the channel with an error.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
from collections.abc import Iterable
from typing import Any, Final, Protocol, cast

from offload.core.job import Job
from offload.errors import FrameError
from offload.wire.frames import (
    HEADER_BYTES,
    Header,
    check_from_worker,
    pack_job,
    pack_large,
    pack_large_job,
    pack_meta,
    unpack,
)
from offload.wire.passing import send_descriptor
from offload.wire.shared_bytes import SharedBytes

_BUFFER_BYTES: Final = 64 * 1024
_EMPTY: Final = memoryview(b"")

# Makes a bytearray of uninitialized memory. `bytearray(n)` writes n zeros: a header alone could make the event loop do
# that for a second, for some GiB. Here the system provides each page when bytes for it arrive. (Source: "Byte Array
# Objects", Python/C API.)
_new_body: Final = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_char_p, ctypes.c_ssize_t)(
    ("PyByteArray_FromStringAndSize", ctypes.pythonapi)
)


# Header, meta and body.
Frame = tuple[Header, bytes, bytes | bytearray]


class ChannelEvents(Protocol):
    """`frames` are those that were received together, in order."""

    def frames(self, frames: list[Frame]) -> None: ...
    def channel_closed(self, error: FrameError | None) -> None: ...


class WorkerChannel(asyncio.BufferedProtocol):
    """The stream of one worker. Writes are not limited: a lane has few jobs in flight, and the queue is bounded.

    `descriptors` is the service's end of a `wire.passing` pair, None if large bodies go through the stream too.
    """

    def __init__(self, events: ChannelEvents, descriptors: socket.socket | None = None) -> None:
        self._events = events
        self._descriptors = descriptors
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._end = 0
        self._large: _LargeFrame | None = None
        self._error: FrameError | None = None

    def write(self, frame: bytes) -> None:
        """Send a whole frame. It is lost without an error if the worker is gone; its death is reported elsewhere."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    def write_jobs(self, jobs: Iterable[Job]) -> None:
        """Send a JOB frame for each: small ones in one write, the body of a large one without copying it."""
        small: list[Any] = []
        for job in jobs:
            if job.size_bytes < _BUFFER_BYTES:
                meta = pack_meta(job.id, job.request.terms.head)
                small += (job_header(job, len(meta)), meta, job.request.body)
            else:
                self.write(b"".join(small))
                small.clear()
                self._write_large(job)
        if small:
            self.write(b"".join(small))

    def _write_large(self, job: Job) -> None:
        body = cast(bytes | SharedBytes, job.request.body)
        if self._transport is None or self._transport.is_closing():
            return
        meta = pack_meta(job.id, job.request.terms.head)
        if isinstance(body, SharedBytes):
            if body.is_closed:
                return  # its job is settled, and this worker is about to be killed
            if self._descriptors is not None and send_descriptor(self._descriptors, job.number, body.fileno()):
                self._transport.write(large_job_header(job, len(meta)) + meta + large_size(job))
                return
        self._transport.write(job_header(job, len(meta)) + meta)
        self._transport.write(memoryview(body.map()) if isinstance(body, SharedBytes) else body)

    def close(self) -> None:
        """Drop the connection at once. May be called twice."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not declared as one

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._large is not None:
            return self._large.free()
        return self._view[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._large is not None:
            if self._large.received(nbytes):
                large, self._large = self._large, None
                self._events.frames([(large.header, large.meta(), large.body())])
            return
        self._end += nbytes
        frames: list[Frame] = []
        try:
            self._cut(frames)
        except FrameError as error:
            self._error = error
        if frames:
            self._events.frames(frames)
        if self._error is not None:
            self.close()

    def eof_received(self) -> bool:
        return False  # the transport closes itself and calls connection_lost

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._events.channel_closed(self._error)

    def _cut(self, frames: list[Frame]) -> None:
        """Append the complete frames. Raises FrameError for an invalid one; those before it stay."""
        start, view = 0, self._view
        while self._end - start >= HEADER_BYTES:
            header = unpack(self._buffer, start)
            check_from_worker(header)
            meta_at = start + HEADER_BYTES
            body_at = meta_at + header.meta_bytes
            end = body_at + header.body_bytes
            if end - start > _BUFFER_BYTES:
                self._large = _LargeFrame(header, view[meta_at : self._end])
                self._end = 0
                return
            if end > self._end:
                break
            frames.append((header, bytes(view[meta_at:body_at]), bytes(view[body_at:end])))
            start = end
        rest = self._end - start
        if start and rest:
            self._view[:rest] = self._view[start : self._end]
        self._end = rest


def job_header(job: Job, meta_bytes: int) -> bytes:
    return pack_job(
        number=job.number,
        task_index=job.limits.index,
        attempt=job.attempt,
        meta_bytes=meta_bytes,
        body_bytes=job.size_bytes,
    )


def large_job_header(job: Job, meta_bytes: int) -> bytes:
    return pack_large_job(number=job.number, task_index=job.limits.index, attempt=job.attempt, meta_bytes=meta_bytes)


def large_size(job: Job) -> bytes:
    return pack_large(job.size_bytes, is_last=job.attempt > job.limits.retries)


class _LargeFrame:
    """A frame larger than the buffer. Its own two buffers have undefined content until it is complete."""

    def __init__(self, header: Header, received: memoryview) -> None:
        self.header = header
        self._meta = bytearray(header.meta_bytes)
        self._body: bytearray = _new_body(None, header.body_bytes)
        self._open = [memoryview(self._meta), memoryview(self._body)]
        while len(received):
            part = self.free()
            count = min(len(part), len(received))
            part[:count] = received[:count]
            received = received[count:]
            self.received(count)

    def free(self) -> memoryview:
        """Returns the buffer for the next bytes."""
        while self._open and not len(self._open[0]):
            self._open.pop(0)
        return self._open[0] if self._open else _EMPTY

    def received(self, count: int) -> bool:
        """Accept `count` more bytes; return True when the frame is complete."""
        self._open[0] = self._open[0][count:]
        return not len(self.free())

    def meta(self) -> bytes:
        return bytes(self._meta)

    def body(self) -> bytearray:
        return self._body
