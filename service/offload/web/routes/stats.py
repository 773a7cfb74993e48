"""`GET /stats`: everything measured, as JSON.

Lives here: the encoding of a snapshot that others make.
"""

from __future__ import annotations

import orjson

from offload.web.answers.reply import FRESH_JSON_HEADERS, OK, Reply
from offload.web.parts import PartsOf
from offload.web.requests.exchange import Exchange, Handler


def stats_handler(parts: PartsOf) -> Handler:
    async def stats(exchange: Exchange) -> Reply:
        return Reply(OK, FRESH_JSON_HEADERS, orjson.dumps(parts.now.stats_source()))

    return stats
