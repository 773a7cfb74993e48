"""`GET /stats`: everything measured, as JSON.

Lives here: the encoding of a snapshot that others make.
"""

from __future__ import annotations

import orjson
from aiohttp import hdrs, web

from offload.web.parts import PartsOf
from offload.web.requests.exchange import Exchange, Handler


def stats_handler(parts: PartsOf) -> Handler:
    async def stats(exchange: Exchange) -> web.Response:
        return web.Response(
            body=orjson.dumps(parts.now.stats_source()),
            headers={hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: "no-store"},
        )

    return stats
