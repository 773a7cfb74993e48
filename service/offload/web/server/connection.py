"""One connection, as aiohttp serves it, and the little that is ours.

Lives here: how long a client may take to begin and to read, what it is told when it speaks no HTTP, and the end of a
wait for a body that cannot come.  `serve` makes one for each connection; `direct` has the short way for small jobs.
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

# For a new connection's first head to be complete.  A later one has what is left of the time to keep it alive.
_FIRST_HEAD_S: Final = 30.0
# A caller that takes nothing of its answer for so long is gone for all we know (nginx: `send_timeout`, 60 s).
_STALLED_S: Final = 60.0


class Connection(web.RequestHandler):
    """`problem_log` takes what is told to those who speak no HTTP, None for nothing."""

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
            # What comes behind a body that is not complete can only be the parser's error: a chunk that is none, say.
            # aiohttp answers it later, and leaves whoever reads the body to wait for the rest.
            self._lingering_time = 0.0
            reading.content.set_exception(web.RequestPayloadError("the body is not framed as its head says"))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        self._forget_reader()
        super().resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._first_head_timer is not None:
            self._first_head_timer.cancel()
            self._first_head_timer = None
        self._forget_reader()
        super().connection_lost(exc)

    def _watch_reader(self) -> None:
        self._forget_reader()
        self._unsent_bytes = cast(asyncio.Transport, self.transport).get_write_buffer_size()
        self._stall_timer = self._loop.call_later(_STALLED_S, self._look_at_reader)

    def _look_at_reader(self) -> None:
        """It has what it was sent, or takes it, or nobody is there."""
        self._stall_timer = None
        transport = self.transport
        if transport is None:
            return
        if transport.get_write_buffer_size() == self._unsent_bytes:
            transport.abort()
        else:
            self._watch_reader()

    def _forget_reader(self) -> None:
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
        """What did not get as far as a handler of ours: broken HTTP, and bugs beside the handlers."""
        if isinstance(exc, HttpProcessingError):
            problem = malformed_head()
        else:
            logger.error("a request could not be handled", exc_info=exc, extra={"fields": {"status": status}})
            problem = internal_error(exc, is_debug=self.debug)
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun, no other can be sent")
        response = response_of(problem.reply())
        response.headers[hdrs.SERVER] = SERVER_NAME
        response.force_close()
        if self._problem_log is not None:
            line = LogLine.of(request.method, "-", remote=request.remote)
            self._problem_log.add(line.answered(status=response.status, body_bytes=0, duration_s=0.0))
        return response
