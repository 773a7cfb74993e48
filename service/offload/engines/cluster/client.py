"""`ClusterClient`, the part that the Dask and Ray clients share: asyncio tasks, and loading the user's tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any

from offload.engines.cluster.driver import ClusterParts, describe_error
from offload.processes.brake import Brake


class ClusterClient:
    """Base of the classes that implement `driver.Cluster`."""

    def __init__(self, parts: ClusterParts) -> None:
        from offload.worker.foreign import cluster as remote  # imported in the driver only; the service never loads it

        self._remote = remote
        self._parts = parts
        self._slots = parts.slots
        self._tasks: set[asyncio.Task[None]] = set()
        self._brake = Brake()

    def _run_task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _cancel_tasks(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    async def _load_until_ready(
        self, slot: int, load: Callable[[], Awaitable[str]], *, is_wanted: Callable[[], bool] = lambda: True
    ) -> bool:
        """Call `load` until it returns "" instead of an error, with pauses once failures repeat.

        Returns whether the tasks were loaded: False if the slot is not wanted any more.
        """
        while is_wanted():
            error = await load()
            if not is_wanted():
                break
            if not error:
                self._brake.succeeded()
                return True
            self._brake.failed(slot, error)
            if self._brake.is_on:
                self._parts.on_start_failed(error)
            await asyncio.sleep(self._brake.pause_s())
        return False

    def _why_not_loaded(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"the tasks were not loaded within {self._parts.start_timeout_s:g} s"
        if isinstance(error, CancelledError):
            return "loading the tasks was cancelled"
        return f"{describe_error(error)} (is offload installed there?)"
