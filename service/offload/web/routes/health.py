"""`GET /health/live` and `GET /health/ready`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import orjson

from offload.web.answers.reply import FRESH_JSON_HEADERS, OK, Reply
from offload.web.header_names import RETRY_AFTER
from offload.web.parts import LateParts
from offload.web.requests.exchange import Exchange

_LIVE: Final = Reply(OK, FRESH_JSON_HEADERS, b'{"status":"live"}')
_READY: Final = Reply(OK, FRESH_JSON_HEADERS, b'{"status":"ready"}')


class HealthHandlers:
    def __init__(self, parts: LateParts) -> None:
        self._parts = parts

    async def live(self, exchange: Exchange) -> Reply:
        """Returns 200: this runs only if the event loop does."""
        return _LIVE

    async def ready(self, exchange: Exchange) -> Reply:
        """Returns 200 if a job sent now would be accepted, else 503 with the reason and `Retry-After`."""
        rejection = self._parts.current.dispatcher.rejection()
        if rejection is None:
            return _READY
        headers = (*FRESH_JSON_HEADERS, (RETRY_AFTER, str(rejection.retry_after_s)))
        body = orjson.dumps({"status": "not-ready", "reason": rejection.reason})
        return Reply(HTTPStatus.SERVICE_UNAVAILABLE.value, headers, body)
