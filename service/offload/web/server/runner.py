"""How the application is served: every knob of aiohttp's server in one place.

Lives here: the runner, and the making of connections.  An application mounted elsewhere is served without any of it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from aiohttp import web

from offload.web.parts import PARTS
from offload.web.server.access_log import ACCESS_LOG, AccessLog
from offload.web.server.connection import Connection
from offload.web.server.direct import IS_POSSIBLE, DirectConnection, DirectJobs

logger: Final = logging.getLogger("offload.web")

# The proxy should be the one that ends an idle connection, or it sends a request into one that was just closed.  nginx
# keeps one for 60 s, Caddy 120 s, Amazon's balancers 60 s, Google's 600 s: longer than each of them.
_KEEP_ALIVE_S: Final = 620.0
# A refused body is read no further than this: long enough for the client to see the answer before the connection is
# reset under what it still sends, and short enough to be worth nothing to somebody who sends for ever.
_LINGER_S: Final = 1.0
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
        parts, access_log = self.app[PARTS], self.app[ACCESS_LOG]
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            problem_log=access_log if parts.has_access_log else None,
            direct=DirectJobs(parts, access_log) if IS_POSSIBLE else None,
            debug=self._is_debug,
            **self._knobs,
        )


class _Server(web.Server):
    """Makes the connections."""

    def __init__(
        self,
        *args: Any,
        request_factory: Any,
        handler_cancellation: bool,
        problem_log: AccessLog | None,
        direct: DirectJobs | None,
        **knobs: Any,
    ) -> None:
        super().__init__(*args, request_factory=request_factory, handler_cancellation=handler_cancellation)
        self._problem_log = problem_log
        self._direct = direct
        self._knobs = knobs

    def __call__(self) -> web.RequestHandler:
        loop = asyncio.get_running_loop()
        if self._direct is None:
            return Connection(self, self._problem_log, loop=loop, **self._knobs)
        return DirectConnection(self, self._problem_log, self._direct, loop=loop, **self._knobs)
