"""Kills processes in a thread, so that the event loop does not block.

A scan of all processes costs the same for one worker as for hundreds. So everything requested during one kill is killed
together in the next, and at most one hunt for strays waits.
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
    """Made and called on the event loop's thread. `hunt` kills what dead workers have left behind."""

    def __init__(self, hunt: Callable[[], Awaitable[None]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="offload-reaper")
        self._hunt = hunt
        # Requested and not begun: roots and groups with their start_ticks, and the callbacks.
        self._trees: dict[int, int] = {}
        self._groups: dict[int, int] = {}
        self._then: list[Callable[[], None]] = []
        self._killing: asyncio.Future[None] | None = None
        self._must_hunt = False
        self._hunting: asyncio.Task[None] | None = None
        self._is_closed = False

    def kill_tree(self, pid: int, start_ticks: int, then: Callable[[], None]) -> None:
        """Kill as `killing.kill_trees` does; then call `then`, whatever was found."""
        if self._is_closed:
            then()
            return
        self._trees[pid] = start_ticks
        self._then.append(then)
        self._kill_next()

    def kill_group(self, pid: int, start_ticks: int) -> None:
        """Kill as `killing.kill_group` does."""
        if not self._is_closed:
            self._groups[pid] = start_ticks
            self._kill_next()

    def hunt_strays(self) -> None:
        """Start a hunt after a worker's death, or note that one must follow the hunt that is under way."""
        self._must_hunt = True
        if self._hunting is None:
            self._hunting = asyncio.create_task(self._hunt_all())
            self._hunting.add_done_callback(self._on_hunted)

    async def close(self, grace_s: float) -> None:
        """Wait until everything requested is killed, but for a hunt at most `grace_s`. What is requested later is left
        to the guard. May be called twice."""
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
            self.hunt_strays()  # requested since the last one ended


def _kill(trees: dict[int, int], groups: dict[int, int]) -> None:
    if trees:
        kill_trees(trees)
    for pid, start_ticks in groups.items():
        kill_group(pid, start_ticks)
