"""How the application is served: every knob of aiohttp's server in one place.

Lives here: the runner, and the small part of aiohttp's protocol that is ours: what a client is told that speaks no
HTTP, and how long it may take to begin.  An application mounted elsewhere is served without any of it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, cast

from aiohttp import hdrs, web
from aiohttp.http import HttpProcessingError

from offload.web.access_log import AccessLog, Entry
from offload.web.app import ACCESS_LOG
from offload.web.exchange import internal_problem
from offload.web.headers import SERVER
from offload.web.parts import PARTS
from offload.web.problems import Problem

logger: Final = logging.getLogger("offload.web")

# The proxy should be the one that ends an idle connection, or it sends a request into one that was just closed.  nginx
# keeps one for 60 s, Caddy 120 s, Amazon's balancers 60 s, Google's 600 s: longer than each of them.
_KEEP_ALIVE_S: Final = 620.0
# For a new connection's first head to be complete.  A later one has what is left of _KEEP_ALIVE_S.
_FIRST_HEAD_S: Final = 30.0
# A refused body is read no further than this: long enough for the client to see the answer before the connection is
# reset under what it still sends, and short enough to be worth nothing to somebody who sends for ever.
_LINGER_S: Final = 1.0
# A caller that takes nothing of its answer for so long is gone for all we know (nginx: `send_timeout`, 60 s).
_STALLED_S: Final = 60.0
# After the drain only those are left who are slow to send a body or to read an answer.
_SHUTDOWN_S: Final = 2.0


def make_runner(app: web.Application, *, is_debug: bool = False) -> web.AppRunner:
    """The runner for an application of `build_app`; `setup` it, give it sites, and `cleanup` after the drain."""
    return _Runner(
        app,
        is_debug=is_debug,
        shutdown_timeout=_SHUTDOWN_S,
        handler_cancellation=True,  # a caller that hangs up ends its handler, and so its job
        access_log=None,  # ours costs less
        auto_decompress=False,  # inflating is work, and none of it is done on the loop
        keepalive_timeout=_KEEP_ALIVE_S,
        lingering_time=_LINGER_S,
        logger=logger,
    )


class _Runner(web.AppRunner):
    def __init__(self, app: web.Application, *, is_debug: bool, shutdown_timeout: float, **knobs: Any) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout, **knobs)
        self._is_debug = is_debug
        self._knobs = knobs

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            problem_log=self.app[ACCESS_LOG] if self.app[PARTS].has_access_log else None,
            debug=self._is_debug,
            **self._knobs,
        )


class _Server(web.Server):
    """Makes a `_Protocol` for each connection."""

    def __init__(self, *args: Any, handler_cancellation: bool, problem_log: AccessLog | None, **knobs: Any) -> None:
        request_factory = knobs.pop("request_factory")
        super().__init__(*args, request_factory=request_factory, handler_cancellation=handler_cancellation)
        self._problem_log = problem_log
        self._knobs = knobs

    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, self._problem_log, loop=asyncio.get_running_loop(), **self._knobs)


class _Protocol(web.RequestHandler):
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
        if self._messages and reading is not None and not reading.content.is_eof():
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
            problem = Problem("bad-request", "The request's head cannot be read as HTTP/1.1, or is too large.")
        else:
            logger.error("a request could not be handled", exc_info=exc, extra={"fields": {"status": status}})
            problem = internal_problem(exc, is_debug=self.debug)
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun, no other can be sent")
        response = problem.response()
        response.headers[hdrs.SERVER] = SERVER
        response.force_close()
        if self._problem_log is not None:
            self._problem_log.add(Entry(request.method, "-", response.status, 0, 0.0, "", request.remote))
        return response
