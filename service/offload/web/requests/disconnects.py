"""Callers that hang up while their job waits or runs.

Lives here: the look, a few times a second, at the connections of those who wait.  Our own server cancels the handler
at once when its caller is gone; mounted in somebody else's application, where that is off, this look ends the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import web

from offload.core.job import Job
from offload.web.requests.body import is_gone

_LOOK_EVERY_S: Final = 0.25


class DisconnectWatch:
    """One timer for all who wait, and none while nobody does.  `on_gone` is called for each job whose caller left."""

    def __init__(self, on_gone: Callable[[Job], None]) -> None:
        self._on_gone = on_gone
        self._waiting: dict[Job, web.Request] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, job: Job, request: web.Request) -> None:
        self._waiting[job] = request
        if self._timer is None:
            self._arm()

    def forget(self, job: Job) -> None:
        self._waiting.pop(job, None)

    def close(self) -> None:
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        self._timer = None
        for job in [job for job, request in self._waiting.items() if is_gone(request)]:
            self._on_gone(job)
        if self._waiting:
            self._arm()
