"""The parts that the application uses, and how handlers reach them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from multidict import istr

from offload.dispatch.dispatcher import Dispatcher
from offload.tasks.catalogue import Catalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class WebParts:
    """Filled by the composition root.

    `stats_source` returns the document of `/stats`; it runs on the event loop and must be cheap.
    `max_body_bytes` limits the size of a request's body, `body_timeout_s` the time until it has arrived (seconds).
    `content_codings` are those of compressed bodies that workers inflate. It is empty where another server than ours
    receives the requests: aiohttp inflates bodies itself, on the event loop, and does not say so.
    `root_path` is the prefix that a proxy strips, empty or for example "/compute".
    `client_header` is the header in which a trusted proxy names the caller, or None.
    `is_debug` shows callers the tracebacks of bugs in the service.
    """

    dispatcher: Dispatcher
    catalogue: Catalogue
    stats_source: Callable[[], object]
    version: str
    max_body_bytes: int
    body_timeout_s: float
    content_codings: tuple[str, ...] = ()
    root_path: str = ""
    client_header: istr | None = None
    has_access_log: bool = True
    is_debug: bool = False


PARTS: Final = web.AppKey("PARTS", WebParts)


class LateParts:
    """Looks up the parts of an application at each use, because they may not exist when the application is built.

    Those of a mounted application, for example, are made at its start-up.
    """

    def __init__(self, app: web.Application) -> None:
        self._app = app

    @property
    def current(self) -> WebParts:
        return self._app[PARTS]
