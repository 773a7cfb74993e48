"""What every request gets beside its own answer.

Lives here: one wrapper around each handler, which turns what the handler raises into a problem document, echoes the
request's id, ends the connection where it cannot go on, and writes the line of the access log.  It takes the place of
aiohttp's middlewares, which would cost every job more.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from aiohttp import hdrs, web

from offload.core.job import Job
from offload.web.server.large import LargeResponse
from offload.web.answers.problems import CLIENT_CLOSED, CallerGone, Problem
from offload.web.parts import PartsOf
from offload.web.requests.headers import REQUEST_ID, SERVER, request_id
from offload.web.server.access_log import AccessLog, LogLine

logger: Final = logging.getLogger("offload.web")


class Exchange:
    """One request on its way to its answer: what a handler is given, and what it leaves for the log."""

    __slots__ = ("began_at", "job", "request", "request_id")

    def __init__(self, request: web.Request) -> None:
        self.began_at = time.perf_counter()
        self.request = request
        self.request_id = request_id(request.headers.get(REQUEST_ID))
        self.job: Job | None = None


# What the kernel takes off our hands at once is worth neither counting nor waiting for.
COUNTED_BYTES: Final = 64 * 1024

Handler = Callable[[Exchange], Awaitable[web.Response]]
RequestHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Exchanges:
    """Makes aiohttp's handlers from ours.  While the service drains, connections end with their next answer."""

    def __init__(self, parts: PartsOf, access_log: AccessLog) -> None:
        self._parts = parts
        self._access_log = access_log

    def handler(self, handle: Handler, *, is_logged: bool = True) -> RequestHandler:
        async def answer(request: web.Request) -> web.StreamResponse:
            exchange = Exchange(request)
            try:
                response = await handle(exchange)
            except Problem as problem:
                response = problem.response()
            except CallerGone:
                response = web.Response(status=CLIENT_CLOSED)
            except asyncio.CancelledError:
                if is_logged:
                    self._log(exchange, CLIENT_CLOSED, 0)
                raise
            except Exception as error:
                response = self._bug(exchange, error)
            self._finish(exchange, response)
            size_bytes = response.content_length or 0
            if size_bytes > COUNTED_BYTES:
                await self._send(request, response, size_bytes)
            if is_logged:
                self._log(exchange, response.status, size_bytes)
            return response

        return answer

    async def _send(self, request: web.Request, response: web.Response, size_bytes: int) -> None:
        """Sends what is large here and now: it counts as long as it waits for its caller, and then is let go, which
        aiohttp does only when the connection's next request comes."""
        try:
            with self._parts.now.dispatcher.leaving(size_bytes), suppress(ConnectionError):
                await response.prepare(request)
                await response.write_eof()
        finally:
            if isinstance(response, LargeResponse):
                response.release()
        response.body = None

    def _finish(self, exchange: Exchange, response: web.Response) -> None:
        response.headers[hdrs.SERVER] = SERVER  # aiohttp's own tells its version and Python's
        if exchange.request_id:
            response.headers[REQUEST_ID] = exchange.request_id
        # A body that nobody read stands between this answer and the next request.
        if self._parts.now.dispatcher.is_draining or not exchange.request.content.is_eof():
            response.force_close()

    def _log(self, exchange: Exchange, status: int, body_bytes: int) -> None:
        if not self._parts.now.has_access_log:
            return
        request, duration_s = exchange.request, time.perf_counter() - exchange.began_at
        path, request_id = request.rel_url.raw_path, exchange.request_id
        line = LogLine.of(request.method, path, request_id=request_id, remote=request.remote)
        self._access_log.add(
            line.answered(status=status, body_bytes=body_bytes, duration_s=duration_s, job=exchange.job)
        )

    def _bug(self, exchange: Exchange, error: Exception) -> web.Response:
        fields = {"method": exchange.request.method, "path": exchange.request.rel_url.raw_path}
        if exchange.job is not None:
            fields["job_id"] = exchange.job.id
        logger.error("a request could not be handled", exc_info=error, extra={"fields": fields})
        return internal_problem(error, is_debug=self._parts.now.is_debug).response()


def internal_problem(error: BaseException | None, *, is_debug: bool) -> Problem:
    """What a caller is told of a bug of ours: that it is one, and no more unless `is_debug`."""
    detail = "This is a fault of the service, not of the request. Its log has more; the request may be tried again."
    if is_debug and error is not None:
        return Problem("internal-error", detail, traceback="".join(traceback.format_exception(error)))
    return Problem("internal-error", detail)
