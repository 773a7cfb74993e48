"""One HTTP connection of a load generator, with just enough of HTTP to know when an answer is complete."""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol, cast

_STATUS: Final = slice(9, 12)  # of "HTTP/1.1 200 OK"
_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"\r\nContent-Length:"


class ConnectionEvents(Protocol):
    def on_answer(self, connection: Connection, now_ns: int) -> None: ...
    def on_closed(self, connection: Connection) -> None: ...


def read_head(data: bytes) -> tuple[int, int, int] | None:
    """Returns (status, length of the head, length of the body) of an answer, or None if its head is incomplete.

    Raises ValueError for an answer without a Content-Length.
    """
    end = data.find(_HEAD_END)
    if end < 0:
        return None
    begin = data.find(_LENGTH, 0, end)
    if begin < 0:  # another spelling, which costs twice as long to find
        begin = data.lower().find(_LENGTH.lower(), 0, end)
    if begin < 0:
        raise ValueError("an answer without Content-Length")
    begin += len(_LENGTH)
    return int(data[_STATUS]), end + len(_HEAD_END), int(data[begin : data.index(b"\r\n", begin)])


class Connection(asyncio.Protocol):
    """Sends the same request again and again, one at a time.

    `status` and `body_bytes` describe the last answer; `body` holds it if `keeps_body` is set.
    """

    def __init__(self, request: bytes, events: ConnectionEvents, *, keeps_body: bool = False) -> None:
        self.is_waiting = False
        self.sent_ns = 0
        self.status = 0
        self.body_bytes = 0
        self.body: list[bytes] = []
        self.keeps_body = keeps_body
        self._request = request
        self._events = events
        self._transport: asyncio.Transport | None = None
        self._is_aborted = False
        self._head = b""  # what has come of an incomplete one
        self._missing_bytes = 0  # of the body

    @property
    def is_within_answer(self) -> bool:
        return bool(self._head or self._missing_bytes)

    def send(self, now_ns: int) -> None:
        """Sends the next request, once connected."""
        self.is_waiting = True
        self.sent_ns = now_ns
        if self._transport is not None:
            self._transport.write(self._request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Hangs up, also when the connection is still being made."""
        self._is_aborted = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._is_aborted:
            self._transport.abort()
        elif self.is_waiting:
            self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        # Also after a reset, which is what a server causes that closes with bytes of the request unread.
        self._transport = None
        self._events.on_closed(self)
        self.is_waiting = False

    def data_received(self, data: bytes) -> None:
        # Kept short: the generator competes with the server for the cores.
        now_ns = time.perf_counter_ns()
        if self._missing_bytes:
            self._missing_bytes -= len(data)
        else:
            data = self._head + data
            try:
                head = read_head(data)
            except ValueError:
                self.abort()
                return
            if head is None:
                self._head = data
                return
            self._head = b""
            self.status, head_bytes, self.body_bytes = head
            self._missing_bytes = self.body_bytes - len(data) + head_bytes
            if self.keeps_body:
                data = data[head_bytes:]
        if self.keeps_body:
            self.body.append(data)
        if self._missing_bytes < 0 or not self.is_waiting:  # more than one answer to one request
            self.abort()
        elif not self._missing_bytes:
            self.is_waiting = False
            self._events.on_answer(self, now_ns)
