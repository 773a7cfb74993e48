"""Reading a request's body, under its limits.

Lives here: when the body is refused before it is read, when it is asked for (`Expect: 100-continue`), and when reading
ends early.  Nothing here looks at what the bytes mean.  `jobs` calls it, after the head was found in order.
"""

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
    """An `Expect: 100-continue` is answered when the body is wanted, not before (see `read_body`)."""


def body_at_hand(request: web.Request, limit_bytes: int) -> bytes | None:
    """The whole body, if it came together with the head, as small ones do: then it costs no timer and no wait.

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
    """The whole body, the caller's to let go of.  `on_bytes` is told how many more have come, and may raise to end it.

    Raises Problem for a body that is too large, too slow or no HTTP, CallerGone for one that was cut off.
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
    """Raises Problem for a body that is too large, by what its head says or by what has come of it."""
    if size_bytes > limit_bytes:
        raise body_too_large(limit_bytes)


def is_gone(request: web.Request) -> bool:
    """Whether nobody can read an answer to this request any more."""
    transport = request.transport
    return transport is None or transport.is_closing()


async def _ask_for_body(request: web.Request) -> None:
    expectation = request.headers.get(hdrs.EXPECT)
    if expectation is not None and expectation.lower() == "100-continue" and request.version >= HttpVersion11:
        writer = request.writer
        await writer.write(_CONTINUE)
        writer.output_size = 0  # the response has not begun by this: an error may still be answered


async def _collect(request: web.Request, limit_bytes: int, on_bytes: Callable[[int], None]) -> bytes | SharedBytes:
    content = request.content
    # As it was received, unless that is in the caller's own pieces, which may be tiny: joining would be one more copy.
    read = content.readany if request.content_length is None else partial(_read_as_received, content)
    with closing(Collector()) as collector:
        while chunk := await read():
            # What has been received, read or not: a chunked body is refused as soon as it is too large.
            check_size(content.total_bytes, limit_bytes)
            on_bytes(len(chunk))
            collector.add(chunk)
        return collector.finish()


async def _read_as_received(content: StreamReader) -> bytes:
    chunk, _ = await content.readchunk()
    return chunk
