"""Sends large results from shared memory to a connection."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Final

from offload.wire.shared_bytes import SharedBytes

# The kernel takes smaller answers at once: not worth counting or waiting for.
COUNTED_BYTES: Final = 64 * 1024
# What the kernel is asked to take of a result at a time: a fraction of a millisecond for the event loop.
_STEP_BYTES: Final = 1 << 20
# What is copied for the transport to send as soon as the caller takes more.  aiohttp waits for that from 64 KiB on.
_SLICE_BYTES: Final = 128 * 1024


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
