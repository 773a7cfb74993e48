"""The worker's side of its channel: reads frames and writes answers, both blocking.

One thread reads and writes, without a lock. If the service has ended or a task closed the descriptor, OSError or
EOFError is raised and the worker ends.
"""

from __future__ import annotations

import socket
from typing import Final

from offload.wire.frames import HEADER_BYTES, Header, unpack

_READ_BYTES: Final = 64 * 1024

# Header, meta and body. A plain tuple: a named one costs a call for every job.
Frame = tuple[Header, bytes, bytes | memoryview]


class Channel:
    """Frames on a connected stream socket. `descriptors`, if not None, passes large bodies, see `wire.passing`."""

    def __init__(self, sock: socket.socket, descriptors: socket.socket | None = None) -> None:
        sock.setblocking(True)
        self.descriptors = descriptors
        self._sock = sock
        self._buffer = bytearray(_READ_BYTES)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0

    @property
    def has_buffered(self) -> bool:
        """Whether `read` has something to begin with before it waits."""
        return self._end > self._start

    def read(self) -> Frame | None:
        """Wait for the next frame. Returns None when the service has closed its side between two frames.

        Raises EOFError if the stream ends inside a frame.
        """
        if self._end - self._start < HEADER_BYTES and not self._fill(HEADER_BYTES):
            return None
        header = unpack(self._buffer, self._start)
        self._start += HEADER_BYTES
        size = header.meta_bytes + header.body_bytes
        if size > _READ_BYTES - HEADER_BYTES:
            payload = self._take_large(size)
            return header, bytes(payload[: header.meta_bytes]), payload[header.meta_bytes :]
        if self._end - self._start < size and not self._fill(size):
            raise EOFError("the channel ended inside a frame")
        body_at = self._start + header.meta_bytes
        end = self._start + size
        # Copy: the buffer receives the next frames while this job waits or runs.
        frame = header, bytes(self._view[self._start : body_at]), bytes(self._view[body_at:end])
        self._start = end
        return frame

    def write(self, header: bytes, meta: bytes = b"", body: bytes | bytearray | memoryview = b"") -> None:
        """Send a frame: a small one in one system call, a large one without joining its parts."""
        if len(body) <= _READ_BYTES:
            self._sock.sendall(b"".join((header, meta, body)))
        else:
            self._sock.sendall(header + meta)
            self._sock.sendall(body)

    def _fill(self, size: int) -> bool:
        """Wait until `size` bytes are buffered, more than now. Returns False if the stream ends before a frame."""
        if self._start:
            rest = self._end - self._start
            self._view[:rest] = self._view[self._start : self._end]
            self._start, self._end = 0, rest
        while self._end < size:
            count = self._sock.recv_into(self._view[self._end :])
            if not count:
                if self._end:
                    raise EOFError("the channel ended inside a frame")
                return False
            self._end += count
        return True

    def _take_large(self, size: int) -> memoryview:
        payload = memoryview(bytearray(size))
        count = self._end - self._start
        payload[:count] = self._view[self._start : self._end]
        self._start = self._end = 0
        while count < size:
            more = self._sock.recv_into(payload[count:])
            if not more:
                raise EOFError("the channel ended inside a frame")
            count += more
        return payload
