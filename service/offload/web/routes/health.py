"""`GET /health/live` and `GET /health/ready`: for whatever restarts the service, and whatever sends it requests.

Lives here: two answers that cost next to nothing.  Whether a job would be taken is the dispatcher's to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson
from aiohttp import hdrs, web

from offload.web.parts import PartsOf
from offload.web.requests.exchange import Exchange
from offload.web.requests.headers import RETRY_AFTER

_HEADERS: Final[Mapping[str, str]] = {hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: "no-store"}


class HealthHandlers:
    def __init__(self, parts: PartsOf) -> None:
        self._parts = parts

    async def live(self, exchange: Exchange) -> web.Response:
        """The event loop runs, or nobody would answer."""
        return web.Response(body=b'{"status":"live"}', headers=_HEADERS)

    async def ready(self, exchange: Exchange) -> web.Response:
        """A job sent now would be taken; else why not, and when to look again."""
        refusal = self._parts.now.dispatcher.refusal()
        if refusal is None:
            return web.Response(body=b'{"status":"ready"}', headers=_HEADERS)
        body = orjson.dumps({"status": "not-ready", "reason": refusal.reason})
        return web.Response(
            status=web.HTTPServiceUnavailable.status_code,
            body=body,
            headers={**_HEADERS, RETRY_AFTER: str(refusal.retry_after_s)},
        )
