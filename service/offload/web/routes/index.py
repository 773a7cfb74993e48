"""`GET /`: name, version and links."""

from __future__ import annotations

from functools import cached_property

import orjson

from offload.web.answers.reply import JSON_HEADERS, OK, Reply
from offload.web.parts import LateParts
from offload.web.requests.exchange import Exchange
from offload.web.routes.links import LIVE, READY, STATS, TASKS, Links


class IndexHandler:
    def __init__(self, parts: LateParts, *, links: Links) -> None:
        self._parts = parts
        self._links = links

    async def get(self, exchange: Exchange) -> Reply:
        return Reply(OK, JSON_HEADERS, self._document)

    @cached_property
    def _document(self) -> bytes:
        resources = {"tasks": TASKS, "stats": STATS, "live": LIVE, "ready": READY}
        return orjson.dumps(
            {
                "name": "offload",
                "version": self._parts.current.version,
                "links": {name: self._links.path(resource) for name, resource in resources.items()},
            }
        )
