"""Reads the body of a request: its size and time limits, and `Expect: 100-continue`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Final

from aiohttp import StreamReader, hdrs, web
from aiohttp.http import HttpVersion11

from offload.web.answers.problems import CallerGone
from offload.web.answers.request_problems import body_timeout, body_too_large, malformed_body
from offload.web.requests.collector import Collector
from offload.wire.shared_bytes import SharedBytes

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


async def leave_expectation(request: web.Request) -> None:
    """Do nothing about `Expect: 100-continue`: `read_body` answers it once the head has been accepted."""


def received_body(request: web.Request, limit_bytes: int) -> bytes | None:
    """Returns the whole body if it arrived with the head, as small ones do, which saves a timer and a wait.

    Raises Problem for a body that is too large.
    """
    content = request.content
    if not content.is_eof():
        return None
    check_size(content.total_bytes, limit_bytes)
    return content.read_nowait()


async def read_body(
    request: web.Request, *, limit_bytes: int, timeout_s: float, on_bytes: Callable[[int], None]
) -> bytes | SharedBytes:
    """Read and return the whole body, which the caller must release.

    `on_bytes` is called with the size of each piece and may raise to stop reading.
    Raises Problem for a body that is too large, too slow or malformed, CallerGone if the caller disconnected.
    """
    await _ask_for_body(request)
    try:
        async with asyncio.timeout(timeout_s):
            return await _collect(request, limit_bytes, on_bytes)
    except TimeoutError:
        raise body_timeout(timeout_s) from None
    except web.RequestPayloadError as error:
        raise malformed_body() from error
    except (ConnectionError, RuntimeError) as error:
        if is_gone(request):
            raise CallerGone from error
        raise


def check_size(size_bytes: int, limit_bytes: int) -> None:
    """Raise Problem for a body that is announced or received with more than the limit."""
    if size_bytes > limit_bytes:
        raise body_too_large(limit_bytes)


def is_gone(request: web.Request) -> bool:
    """Returns whether the connection of this request is closed or closing."""
    transport = request.transport
    return transport is None or transport.is_closing()


async def _ask_for_body(request: web.Request) -> None:
    expectation = request.headers.get(hdrs.EXPECT)
    if expectation is not None and expectation.lower() == "100-continue" and request.version >= HttpVersion11:
        writer = request.writer
        await writer.write(_CONTINUE)
        writer.output_size = 0  # an error can still be sent: the response has not begun


async def _collect(request: web.Request, limit_bytes: int, on_bytes: Callable[[int], None]) -> bytes | SharedBytes:
    content = request.content
    # Piece by piece as received, which saves a copy. The chunks of a chunked body may be tiny: those are joined.
    read = content.readany if request.content_length is None else partial(_read_as_received, content)
    with closing(Collector()) as collector:
        while chunk := await read():
            # Counts all that was received, read or not: rejects a chunked body as early as possible.
            check_size(content.total_bytes, limit_bytes)
            on_bytes(len(chunk))
            collector.add(chunk)
        return collector.finish()


async def _read_as_received(content: StreamReader) -> bytes:
    chunk, _ = await content.readchunk()
    return chunk
