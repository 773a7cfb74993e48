"""The worker's end of its channel: blocking reads of frames, blocking writes of answers.

One thread, one reader, one writer; no lock.  Whatever goes wrong here (the service is gone, a task closed our
descriptor) raises OSError or EOFError, and the worker ends.
"""

from __future__ import annotations

import socket
from typing import Final, NamedTuple

from offload.wire.frames import HEADER_BYTES, Header, unpack

_READ_BYTES: Final = 64 * 1024


class Frame(NamedTuple):
    header: Header
    meta: bytes
    body: bytes | memoryview


class Channel:
    """Frames over a connected stream socket.  `descriptors` is for large bodies (`passing`), None where it has none."""

    def __init__(self, sock: socket.socket, descriptors: socket.socket | None = None) -> None:
        sock.setblocking(True)
        self.descriptors = descriptors
        self._sock = sock
        self._buffer = bytearray(_READ_BYTES)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0

    def read(self) -> Frame | None:
        """Waits for the next frame; None when the service has closed its end between two frames.

        Raises EOFError where the end comes inside of a frame.
        """
        if self._end - self._start < HEADER_BYTES and not self._fill(HEADER_BYTES):
            return None
        header = unpack(self._buffer, self._start)
        self._start += HEADER_BYTES
        size = header.meta_bytes + header.body_bytes
        if size > _READ_BYTES - HEADER_BYTES:
            payload = self._take_large(size)
            return Frame(header, bytes(payload[: header.meta_bytes]), payload[header.meta_bytes :])
        if self._end - self._start < size and not self._fill(size):
            raise EOFError("the service went away in the middle of a frame")
        body_at = self._start + header.meta_bytes
        end = self._start + size
        # Copies: the buffer takes the next frames while this one still waits or runs.
        frame = Frame(header, bytes(self._view[self._start : body_at]), bytes(self._view[body_at:end]))
        self._start = end
        return frame

    def write(self, header: bytes, meta: bytes = b"", body: bytes | bytearray | memoryview = b"") -> None:
        """Sends a whole frame; a small one in one system call, a large one without joining its parts."""
        if len(body) <= _READ_BYTES:
            self._sock.sendall(b"".join((header, meta, body)))
        else:
            self._sock.sendall(header + meta)
            self._sock.sendall(body)

    def _fill(self, size: int) -> bool:
        """Waits until `size` bytes are buffered, which are more than there are.  False at a clean end."""
        if self._start:
            rest = self._end - self._start
            self._view[:rest] = self._view[self._start : self._end]
            self._start, self._end = 0, rest
        while self._end < size:
            count = self._sock.recv_into(self._view[self._end :])
            if not count:
                if self._end:
                    raise EOFError("the service went away in the middle of a frame")
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
                raise EOFError("the service went away in the middle of a frame")
            count += more
        return payload
