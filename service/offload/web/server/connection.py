"""One connection: what the service adds to aiohttp's `RequestHandler`.

It limits the time to the first head and the time in which a caller reads nothing, answers malformed HTTP with a
problem, and ends the wait for a body that cannot become complete. It uses private attributes of aiohttp:
`_current_request`, `_lingering_time`, `_loop`, `_messages` and `_request_count`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, cast

from aiohttp import hdrs, web
from aiohttp.http import HttpProcessingError

from offload.web.answers.request_problems import internal_error, malformed_head
from offload.web.header_names import SERVER_NAME
from offload.web.server.access_log import AccessLog, LogLine
from offload.web.server.responses import response_of

logger: Final = logging.getLogger("offload.web")

# Limit on the arrival of a connection's first head. Later heads are limited by the keep-alive time.
_FIRST_HEAD_S: Final = 30.0
# A caller that reads nothing of its answer for this long is considered gone (as nginx's `send_timeout`, 60 s).
_STALLED_S: Final = 60.0


class Connection(web.RequestHandler):
    """`problem_log` receives a line for each answer to malformed HTTP; None switches that off."""

    __slots__ = ("_first_head_timer", "_problem_log", "_stall_timer", "_unsent_bytes")

    def __init__(self, server: web.Server, problem_log: AccessLog | None, **knobs: Any) -> None:
        super().__init__(server, **knobs)
        self._problem_log = problem_log
        self._first_head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._unsent_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._first_head_timer = self._loop.call_later(_FIRST_HEAD_S, self._close_without_head)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        reading = self._current_request
        if reading is not None and self._messages and not reading.content.is_eof():
            # A message behind an incomplete body can only be a parser error, for example a malformed chunk. aiohttp
            # answers that later, and would let the reader of the body wait until its timeout.
            self._lingering_time = 0.0
            reading.content.set_exception(web.RequestPayloadError("malformed body"))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_stall_timer()

    def resume_writing(self) -> None:
        self._stop_stall_timer()
        super().resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._first_head_timer is not None:
            self._first_head_timer.cancel()
            self._first_head_timer = None
        self._stop_stall_timer()
        super().connection_lost(exc)

    def _start_stall_timer(self) -> None:
        self._stop_stall_timer()
        self._unsent_bytes = cast(asyncio.Transport, self.transport).get_write_buffer_size()
        self._stall_timer = self._loop.call_later(_STALLED_S, self._check_for_stall)

    def _check_for_stall(self) -> None:
        """Abort the connection if the caller has read nothing since the timer started."""
        self._stall_timer = None
        transport = self.transport
        if transport is None:
            return
        if transport.get_write_buffer_size() == self._unsent_bytes:
            transport.abort()
        else:
            self._start_stall_timer()

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _close_without_head(self) -> None:
        self._first_head_timer = None
        if not self._request_count:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer malformed HTTP, and bugs outside the service's handlers."""
        if isinstance(exc, HttpProcessingError):
            problem = malformed_head()
        else:
            logger.error("a request could not be handled", exc_info=exc, extra={"fields": {"status": status}})
            problem = internal_error(exc, is_debug=self.debug)
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun; no other can be sent")
        response = response_of(problem.reply())
        response.headers[hdrs.SERVER] = SERVER_NAME
        response.force_close()
        if self._problem_log is not None:
            line = LogLine.of(request.method, "-", remote=request.remote)
            self._problem_log.add(line.complete(status=response.status, body_bytes=0, duration_s=0.0))
        return response
