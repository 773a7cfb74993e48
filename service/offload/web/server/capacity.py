"""Limits the number of connections, so that file descriptors are left for workers and bodies, and says so in the log.

Without a descriptor the event loop cannot accept a connection: uvloop closes it, asyncio lets it wait, and neither lets
the service know. So connections are counted, and a timer tries whether there is a descriptor left at all.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from typing import Any, Final

logger: Final = logging.getLogger("offload.web")

# What accept(2) reports without descriptors or memory.
_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_TRY_EVERY_S: Final = 1.0
_WARN_EVERY_S: Final = 10.0
_WARNING: Final = (
    "connections are refused for lack of file descriptors; raise the limit with `ulimit -n` or LimitNOFILE="
)


class Capacity:
    """Admits `most` connections at once. `limit` is the limit on open files."""

    def __init__(self, *, most: int, limit: int) -> None:
        self._most = most
        self._limit = limit
        self._connections = 0
        self._refused = 0
        self._warn_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def add(self) -> bool:
        """Count a connection. Returns False if it must be closed at once."""
        self._connections += 1
        if self._connections <= self._most:
            return True
        self._refused += 1
        self._warn(time.monotonic())
        return False

    def remove(self) -> None:
        """A connection has ended, whether it was admitted or not."""
        self._connections -= 1

    def open(self) -> None:
        """Start to watch the running event loop, and whether a descriptor is left."""
        asyncio.get_running_loop().set_exception_handler(self.on_loop_error)
        self._wait()

    def on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle an error of the event loop. asyncio reports each connection that it cannot accept, by the thousand."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _SHORTAGES and "accept" in str(context.get("message")):
            self._refused += 1
            self._warn(time.monotonic())
        else:
            loop.default_exception_handler(context)

    def close(self) -> None:
        """May be called twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_TRY_EVERY_S, self._try)

    def _try(self) -> None:
        try:
            os.close(os.dup(0))
        except OSError:
            self._warn(time.monotonic())
        if self._refused:  # since the last warning
            self._warn(time.monotonic())
        self._wait()

    def _warn(self, now: float) -> None:
        if now < self._warn_at:
            return
        self._warn_at = now + _WARN_EVERY_S
        fields = {"limit": self._limit, "connections": self._connections, "refused": self._refused}
        self._refused = 0
        logger.warning(_WARNING, extra={"fields": fields})
