"""One request while it is being answered, and the type of the handlers that answer it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from offload.core.job import Job
from offload.web.answers.reply import Reply
from offload.web.header_names import REQUEST_ID
from offload.web.requests.headers import request_id


class Exchange:
    """What a handler receives. The handler sets `job`, for the access log."""

    __slots__ = ("began_at", "job", "request", "request_id")

    def __init__(self, request: web.Request) -> None:
        self.began_at = time.perf_counter()
        self.request = request
        self.request_id = request_id(request.headers.get(REQUEST_ID))
        self.job: Job | None = None


Handler = Callable[[Exchange], Awaitable[Reply]]
