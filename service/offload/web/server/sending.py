"""Sends large results from shared memory to a connection."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Final

from offload.wire.shared_bytes import SharedBytes

# The kernel takes smaller answers at once: not worth counting or waiting for.
COUNTED_BYTES: Final = 64 * 1024
# Bytes per `sendfile` call: a fraction of a millisecond on the event loop.
_STEP_BYTES: Final = 1 << 20
# Bytes copied for the transport when the socket takes no more. From 64 KiB on, aiohttp waits for the transport.
_SLICE_BYTES: Final = 128 * 1024


async def send_content(
    content: SharedBytes, transport: asyncio.Transport, write: Callable[[bytes], Awaitable[None]]
) -> None:
    """Send all of `content`. `write` passes bytes to the transport and waits until it accepts more.

    Memory goes to the socket without a copy while the socket accepts it, else through the transport, which waits for
    the socket and where `connection` detects a caller that stopped reading. Raises ConnectionError.
    """
    if transport.is_closing():
        raise ConnectionResetError
    # Makes `write` wait until the kernel has everything: `_send_directly` must not overtake the transport.
    transport.set_write_buffer_limits(high=0)
    try:
        at = 0
        while at < len(content):
            # The first piece flushes the head.
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
    """Returns how many bytes the socket accepted: 0 if it is full, or if the transport holds earlier bytes."""
    if transport.is_closing():  # its descriptor may belong to another connection by now
        raise ConnectionResetError
    if transport.get_write_buffer_size() or transport.get_extra_info("sslcontext") is not None:
        return 0
    sock = transport.get_extra_info("socket")
    if sock is None or not hasattr(os, "sendfile"):
        return 0
    try:
        return os.sendfile(sock.fileno(), content.fileno(), at, min(_STEP_BYTES, len(content) - at))
    except OSError:  # usually EAGAIN; the transport finds any other error
        return 0
