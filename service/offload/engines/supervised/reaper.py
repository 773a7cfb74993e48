"""Killing workers without holding up the event loop.

Lives here: the thread in which a kill looks for all that is to be killed, and what follows a kill on the loop.  How a
kill is done is in `killing`.  The engine owns one `Reaper`; its lanes call it through `LaneParts`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from offload.engines.supervised.killing import kill_group, kill_tree

logger: Final = logging.getLogger("offload.engine")


class Reaper:
    """Made and called on the loop's thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="offload-reaper")
        self._is_closed = False

    def kill_tree(self, pid: int, start_ticks: int, then: Callable[[], None]) -> None:
        """As `killing.kill_tree`; `then` is called when that is over, whomever it found."""
        self._submit(kill_tree, pid, start_ticks, then)

    def kill_group(self, pid: int, start_ticks: int) -> None:
        """As `killing.kill_group`."""
        self._submit(kill_group, pid, start_ticks, lambda: None)

    async def close(self) -> None:
        """Ends when all is killed.  What is to be killed later is the guard's.  May be called twice."""
        self._is_closed = True
        await asyncio.to_thread(self._thread.shutdown)

    def _submit(self, kill: Callable[[int, int], None], pid: int, start_ticks: int, then: Callable[[], None]) -> None:
        if self._is_closed:
            then()
            return
        killing = self._loop.run_in_executor(self._thread, kill, pid, start_ticks)
        killing.add_done_callback(partial(self._on_killed, then))

    def _on_killed(self, then: Callable[[], None], killing: asyncio.Future[None]) -> None:
        error = killing.exception()
        if error is not None:
            logger.error("a worker could not be killed", exc_info=error)
        then()
