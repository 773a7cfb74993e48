"""`GET /stats`: all measurements as JSON. orjson writes a dataclass with its field names as keys."""

from __future__ import annotations

import orjson

from offload.web.answers.reply import FRESH_JSON_HEADERS, OK, Reply
from offload.web.parts import LateParts
from offload.web.requests.exchange import Exchange, Handler


def stats_handler(parts: LateParts) -> Handler:
    async def stats(exchange: Exchange) -> Reply:
        return Reply(OK, FRESH_JSON_HEADERS, orjson.dumps(parts.current.stats_source()))

    return stats
