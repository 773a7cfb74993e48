"""Large bodies on their way in, and large results on their way out.

Lives here: collecting a body from its pieces, the larger ones in memory that a worker can be handed, and the sending of
such memory.  Neither is ever joined, nor copied on the event loop but piece by piece.  `body` collects, `exchange` and
`direct` send.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import hdrs, web

from offload.engines.release import release_body
from offload.wire.shared_bytes import LARGE_BYTES, SharedBytes, SharedWriter, is_supported

# What the kernel is asked to take of a result at a time: a fraction of a millisecond for the event loop.
_STEP_BYTES: Final = 1 << 20
# What is copied for the transport to send as soon as the caller takes more.  aiohttp waits for that from 64 KiB on.
_SLICE_BYTES: Final = 128 * 1024


class Collector:
    """A body that arrives.  To be finished or closed."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size_bytes = 0
        self._writer: SharedWriter | None = None

    def add(self, piece: bytes) -> None:
        """One more piece; costs no more than to copy it."""
        if self._writer is not None:
            self._writer.write(piece)
            return
        self._pieces.append(piece)
        self._size_bytes += len(piece)
        if self._size_bytes > LARGE_BYTES:
            self._move()

    def finish(self) -> bytes | SharedBytes:
        """The whole body, the caller's from here on."""
        if self._writer is None:
            return b"".join(self._pieces)
        return self._writer.finish(is_final=False)

    def close(self) -> None:
        """Gives up what was not finished."""
        if self._writer is not None:
            self._writer.close()

    def _move(self) -> None:
        """It is large.  Where the system has no such memory, or none now, it stays in pieces."""
        if not is_supported():
            return
        try:
            self._writer = SharedWriter()
        except OSError:
            return
        for piece in self._pieces:
            self._writer.write(piece)
        self._pieces.clear()


class LargeResponse(web.Response):
    """Sends memory as it is; owns it, and has let go of it when it was sent or could not be."""

    def __init__(self, content: SharedBytes, headers: Mapping[str, str]) -> None:
        super().__init__(headers={**headers, hdrs.CONTENT_LENGTH: str(len(content))})
        self._content = content

    async def write_eof(self, data: bytes = b"") -> None:
        if self._eof_sent:
            return
        transport = None if self._req is None else self._req.transport
        if transport is None:
            raise ConnectionResetError
        await send_content(self._content, transport, self.write)
        await super().write_eof()

    def release(self) -> None:
        """May be called twice."""
        release_body(self._content)


async def send_content(
    content: SharedBytes, transport: asyncio.Transport, write: Callable[[bytes], Awaitable[None]]
) -> None:
    """Sends all of it.  `write` hands bytes to the transport and waits until it takes more.

    From the memory to the socket without a copy, as long as it takes more; else by way of the transport, which tells
    when it does.  A caller that takes nothing is seen there and let go (`connection`).  Raises ConnectionError.
    """
    if transport.is_closing():
        raise ConnectionResetError
    # From here on a write waits until all that was written is with the kernel; see `_send_directly`.
    transport.set_write_buffer_limits(high=0)
    try:
        at = 0
        while at < len(content):
            # The first piece takes the head with it.
            sent = _send_directly(transport, content, at) if at else 0
            if sent:
                await asyncio.sleep(0)
            else:
                piece = content.read(at, _SLICE_BYTES)
                await write(piece)
                sent = len(piece)
            at += sent
    finally:
        if not transport.is_closing():
            transport.set_write_buffer_limits()


def _send_directly(transport: asyncio.Transport, content: SharedBytes, at: int) -> int:
    """How much the socket has taken; 0 if it takes nothing now, or what was written before is not with it yet."""
    if transport.is_closing():  # then its descriptor may be another connection's
        raise ConnectionResetError
    if transport.get_write_buffer_size() or transport.get_extra_info("sslcontext") is not None:
        return 0
    sock = transport.get_extra_info("socket")
    if sock is None or not hasattr(os, "sendfile"):
        return 0
    try:
        return os.sendfile(sock.fileno(), content.fileno(), at, min(_STEP_BYTES, len(content) - at))
    except OSError:  # most often EAGAIN; whatever else is wrong, the transport finds out
        return 0
