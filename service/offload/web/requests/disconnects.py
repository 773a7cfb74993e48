"""Ends jobs whose callers have disconnected.

The service's own server cancels a handler at once when its caller disconnects. Where the application is mounted in
another one, that may be switched off, so the connections of waiting callers are checked a few times a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import web

from offload.core.job import Job
from offload.web.requests.body import is_gone

_CHECK_EVERY_S: Final = 0.25


class DisconnectWatch:
    """Calls `on_gone` for each watched job whose caller disconnected. One timer serves all jobs."""

    def __init__(self, on_gone: Callable[[Job], None]) -> None:
        self._on_gone = on_gone
        self._waiting: dict[Job, web.Request] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, job: Job, request: web.Request) -> None:
        self._waiting[job] = request
        if self._timer is None:
            self._start_timer()

    def forget(self, job: Job) -> None:
        self._waiting.pop(job, None)

    def close(self) -> None:
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_CHECK_EVERY_S, self._check)

    def _check(self) -> None:
        self._timer = None
        for job in [job for job, request in self._waiting.items() if is_gone(request)]:
            self._on_gone(job)
        if self._waiting:
            self._start_timer()
