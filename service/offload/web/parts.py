"""What the application is made from.

Lives here: the one record that the composition root fills, and the way in which handlers get at it.  An application
may be built before its parts exist, as one that is mounted elsewhere is: they come with its start-up.
"""

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
    """`stats_source` makes the document of `/stats`; it is called on the event loop and must cost it next to nothing.

    `max_body_bytes` limits a request's body, `body_timeout_s` the time for all of it to arrive, seconds.  `root_path`
    is the prefix that a proxy cuts off, "" or like "/compute".  `client_header` is set by a proxy and names the caller,
    None for no such header.  `is_debug` shows callers the tracebacks of our bugs.
    """

    dispatcher: Dispatcher
    catalogue: Catalogue
    stats_source: Callable[[], object]
    version: str
    max_body_bytes: int
    body_timeout_s: float
    root_path: str = ""
    client_header: istr | None = None
    has_access_log: bool = True
    is_debug: bool = False


PARTS: Final = web.AppKey("PARTS", WebParts)


class PartsOf:
    """The parts of an application, as they are when they are asked for."""

    def __init__(self, app: web.Application) -> None:
        self._app = app

    @property
    def now(self) -> WebParts:
        return self._app[PARTS]
