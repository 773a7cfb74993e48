"""Adapts handlers to aiohttp.

The adapter turns what a handler raises into a problem document, echoes the request id, closes the connection where it
cannot continue, and writes the access log. It replaces aiohttp's middlewares, which would cost each job more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from aiohttp import hdrs, web

from offload.web.answers.problems import CallerGone, Problem
from offload.web.answers.reply import CLIENT_CLOSED, CLIENT_CLOSED_REPLY, Reply
from offload.web.answers.request_problems import internal_error
from offload.web.header_names import REQUEST_ID, SERVER_NAME
from offload.web.parts import LateParts
from offload.web.requests.exchange import Exchange, Handler
from offload.web.server.access_log import AccessLog, LogLine
from offload.web.server.responses import LargeResponse, response_of
from offload.web.server.sending import COUNTED_BYTES

logger: Final = logging.getLogger("offload.web")

AiohttpHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HandlerAdapter:
    """Makes handlers of aiohttp. While the service drains, each connection closes after its next response."""

    def __init__(self, parts: LateParts, access_log: AccessLog) -> None:
        self._parts = parts
        self._access_log = access_log

    def adapt(self, handle: Handler, *, is_logged: bool = True) -> AiohttpHandler:
        async def handler(request: web.Request) -> web.StreamResponse:
            exchange = Exchange(request)
            try:
                reply = await handle(exchange)
            except Problem as problem:
                reply = problem.reply()
            except CallerGone:
                reply = CLIENT_CLOSED_REPLY
            except asyncio.CancelledError:
                if is_logged:
                    self._log(exchange, CLIENT_CLOSED, 0)
                raise
            except Exception as error:
                reply = self._on_bug(exchange, error)
            size_bytes = len(reply.body)
            response = response_of(reply)
            self._complete(exchange, response)
            if size_bytes > COUNTED_BYTES:
                await self._send(request, response, size_bytes)
            if is_logged:
                self._log(exchange, reply.status, size_bytes)
            return response

        return handler

    async def _send(self, request: web.Request, response: web.Response, size_bytes: int) -> None:
        """Send a large response here, so that it is counted while the caller reads it and released afterwards.

        aiohttp would keep it until the next request of the connection.
        """
        try:
            with self._parts.current.dispatcher.leaving(size_bytes), suppress(ConnectionError):
                await response.prepare(request)
                await response.write_eof()
        finally:
            if isinstance(response, LargeResponse):
                response.release()
        response.body = None

    def _complete(self, exchange: Exchange, response: web.Response) -> None:
        response.headers[hdrs.SERVER] = SERVER_NAME
        if exchange.request_id:
            response.headers[REQUEST_ID] = exchange.request_id
        # An unread body would be taken for the next request.
        if self._parts.current.dispatcher.is_draining or not exchange.request.content.is_eof():
            response.force_close()

    def _log(self, exchange: Exchange, status: int, body_bytes: int) -> None:
        if not self._parts.current.has_access_log:
            return
        request, duration_s = exchange.request, time.perf_counter() - exchange.began_at
        line = LogLine.of(
            request.method,
            request.rel_url.raw_path,
            request_id=exchange.request_id,
            traceparent="" if exchange.job is None else exchange.job.request.terms.head.traceparent,
            remote=request.remote,
        )
        self._access_log.add(
            line.complete(status=status, body_bytes=body_bytes, duration_s=duration_s, job=exchange.job)
        )

    def _on_bug(self, exchange: Exchange, error: Exception) -> Reply:
        fields = {"method": exchange.request.method, "path": exchange.request.rel_url.raw_path}
        if exchange.job is not None:
            fields["job_id"] = exchange.job.id
        logger.error("a request could not be handled", exc_info=error, extra={"fields": fields})
        return internal_error(error, is_debug=self._parts.current.is_debug).reply()
