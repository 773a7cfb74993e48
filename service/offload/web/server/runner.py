"""Configures aiohttp's server and makes its connections. A mounted application does not use it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from aiohttp import web

from offload.web.parts import PARTS
from offload.web.server.access_log import ACCESS_LOG, AccessLog
from offload.web.server.capacity import Capacity
from offload.web.server.connection import Connection
from offload.web.server.direct import IS_POSSIBLE, DirectConnection, DirectJobs

logger: Final = logging.getLogger("offload.web")

# Longer than any proxy keeps an idle connection (nginx 60 s, Caddy 120 s, Amazon 60 s, Google 600 s). If the service
# closed first, a proxy could send a request into a connection that was just closed.
_KEEP_ALIVE_S: Final = 620.0
# How long the rest of a rejected body is read. Closing at once would reset the connection before the client has read
# the answer; reading longer would serve clients that never stop sending.
_LINGER_S: Final = 1.0
# After the drain, only clients that send a body or read an answer slowly are left.
_SHUTDOWN_S: Final = 2.0


def make_runner(app: web.Application, *, is_debug: bool = False, capacity: Capacity | None = None) -> web.AppRunner:
    """Returns the runner for an application of `build_app`: call `setup`, add sites, call `cleanup` after the drain."""
    return _Runner(
        app,
        is_debug=is_debug,
        capacity=capacity,
        shutdown_timeout=_SHUTDOWN_S,
        handler_cancellation=True,  # a disconnect ends the handler, and so the job
        access_log=None,  # replaced by a cheaper one, see `access_log`
        auto_decompress=False,  # inflating would block the event loop
        keepalive_timeout=_KEEP_ALIVE_S,
        lingering_time=_LINGER_S,
        logger=logger,
    )


class _Runner(web.AppRunner):
    def __init__(
        self,
        app: web.Application,
        *,
        is_debug: bool,
        capacity: Capacity | None,
        shutdown_timeout: float,
        **knobs: Any,
    ) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout, **knobs)
        self._is_debug = is_debug
        self._capacity = capacity
        self._knobs = knobs

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        parts, access_log = self.app[PARTS], self.app[ACCESS_LOG]
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            problem_log=access_log if parts.has_access_log else None,
            direct=DirectJobs(parts, access_log) if IS_POSSIBLE else None,
            capacity=self._capacity,
            debug=self._is_debug,
            **self._knobs,
        )


class _Server(web.Server):
    """Makes a connection object for each connection."""

    def __init__(
        self,
        *args: Any,
        request_factory: Any,
        handler_cancellation: bool,
        problem_log: AccessLog | None,
        direct: DirectJobs | None,
        capacity: Capacity | None,
        **knobs: Any,
    ) -> None:
        super().__init__(*args, request_factory=request_factory, handler_cancellation=handler_cancellation)
        self._problem_log = problem_log
        self._direct = direct
        self._capacity = capacity
        self._knobs = knobs

    def __call__(self) -> web.RequestHandler:
        loop = asyncio.get_running_loop()
        if self._direct is None:
            return Connection(self, self._problem_log, loop=loop, **self._knobs)
        return DirectConnection(self, self._problem_log, self._direct, loop=loop, **self._knobs)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if self._capacity is not None and not self._capacity.add():
            asyncio.get_running_loop().call_soon(transport.abort)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        if self._capacity is not None:
            self._capacity.remove()
