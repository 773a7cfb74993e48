"""Killing without holding up the event loop.

Lives here: the thread in which a kill looks at all processes, and the order of kills.  A look costs the same for one
worker as for hundreds, so whatever is ordered during one kill is killed together in the next; and of hunts for strays
at most one waits.  How a kill is done is in `killing`.  The engine owns one `Reaper`; its lanes call it through
`LaneParts`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from offload.processes.killing import kill_group, kill_trees

logger: Final = logging.getLogger("offload.engine")


class Reaper:
    """Made and called on the loop's thread.  `hunt` ends what dead workers have left behind."""

    def __init__(self, hunt: Callable[[], Awaitable[None]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="offload-reaper")
        self._hunt = hunt
        # What is ordered and not begun: roots with their start_ticks, and what follows.
        self._trees: dict[int, int] = {}
        self._groups: dict[int, int] = {}
        self._then: list[Callable[[], None]] = []
        self._killing: asyncio.Future[None] | None = None
        self._must_hunt = False
        self._hunting: asyncio.Task[None] | None = None
        self._is_closed = False

    def kill_tree(self, pid: int, start_ticks: int, then: Callable[[], None]) -> None:
        """As `killing.kill_trees`; `then` is called when that is over, whomever it found."""
        if self._is_closed:
            then()
            return
        self._trees[pid] = start_ticks
        self._then.append(then)
        self._kill_next()

    def kill_group(self, pid: int, start_ticks: int) -> None:
        """As `killing.kill_group`."""
        if not self._is_closed:
            self._groups[pid] = start_ticks
            self._kill_next()

    def hunt_strays(self) -> None:
        """A worker has died: a hunt that begins from now on is to follow."""
        self._must_hunt = True
        if self._hunting is None:
            self._hunting = asyncio.create_task(self._hunt_all())
            self._hunting.add_done_callback(self._on_hunted)

    async def close(self, grace_s: float) -> None:
        """Ends when all is killed, and the hunt for strays after `grace_s` at the latest; what is to be killed later is
        the guard's.  May be called twice."""
        if self._hunting is not None:
            await asyncio.wait([self._hunting], timeout=grace_s)
        if self._hunting is not None:
            self._hunting.cancel()
        while self._killing is not None:
            await asyncio.wait([self._killing])
        self._is_closed = True
        await asyncio.to_thread(self._thread.shutdown)

    def _kill_next(self) -> None:
        if self._killing is not None or not (self._trees or self._groups):
            return
        self._killing = self._loop.run_in_executor(self._thread, _kill, self._trees, self._groups)
        self._killing.add_done_callback(partial(self._on_killed, self._then))
        self._trees, self._groups, self._then = {}, {}, []

    def _on_killed(self, then: list[Callable[[], None]], killing: asyncio.Future[None]) -> None:
        self._killing = None
        error = killing.exception()
        if error is not None:
            logger.error("workers could not be killed", exc_info=error)
        for call in then:
            call()
        self._kill_next()

    async def _hunt_all(self) -> None:
        while self._must_hunt:
            self._must_hunt = False
            await self._hunt()

    def _on_hunted(self, hunting: asyncio.Task[None]) -> None:
        self._hunting = None
        error = None if hunting.cancelled() else hunting.exception()
        if error is not None:
            logger.error("the hunt for strays failed", exc_info=error)
        elif self._must_hunt and not hunting.cancelled():
            self.hunt_strays()  # asked for between the end of the last one and now


def _kill(trees: dict[int, int], groups: dict[int, int]) -> None:
    if trees:
        kill_trees(trees)
    for pid, start_ticks in groups.items():
        kill_group(pid, start_ticks)
