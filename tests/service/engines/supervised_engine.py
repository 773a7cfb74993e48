"""A supervised engine with real workers, on the event loop of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from offload.core.death import Death
from offload.core.job import Job, SlotId
from offload.core.outcome import Ended
from offload.engines.supervised.engine import SupervisedEngine
from offload.metrics.layout import WorkerRows
from offload.processes.launcher import Launcher
from offload.settings.table import Settings
from offload.tasks.targets.loading import parse_target
from offload.wire.spec import LoadSpec

BOUND_S = 30.0
TASKS = """
import time
from offload import task

@task
def hang() -> None:
    time.sleep(1000)
"""


class RecordedEvents:
    """Records the events of an engine; implements `EngineEvents`. Each is a tuple that begins with its name."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self._happened = asyncio.Event()

    def slot_added(self, slot: SlotId) -> None:
        self._note("added", slot)

    def slot_removed(self, slot: SlotId) -> None:
        self._note("removed", slot)

    def ready(self, slot: SlotId, generation: int) -> None:
        self._note("ready", slot, generation)

    def finished(self, slot: SlotId, generation: int, ended: Sequence[Ended], *, is_leaving: bool = False) -> None:
        for number, _ in ended:
            self._note("finished", slot, number)

    def died(self, slot: SlotId, generation: int, death: Death, *, begun: int) -> None:
        self._note("died", slot, generation)

    def exceeded_memory(self, job: Job, *, peak_bytes: int) -> None:
        self._note("exceeded memory", job.number)

    def failing_to_start(self) -> None:
        self._note("failing to start")

    def all(self, name: str) -> list[tuple[Any, ...]]:
        return [event[1:] for event in self.seen if event[0] == name]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until the condition holds after an event."""
        async with asyncio.timeout(BOUND_S):
            while not condition():
                self._happened.clear()
                await self._happened.wait()

    def _note(self, *event: Any) -> None:
        self.seen.append(event)
        self._happened.set()


@asynccontextmanager
async def opened(
    directory: Path, *, tasks: str = TASKS, **settings: Any
) -> AsyncIterator[tuple[SupervisedEngine, RecordedEvents]]:
    """Opens an engine whose workers are starting; `tasks` is the text of the file that they load."""
    path = directory / "tasks.py"
    path.write_text(tasks)
    load = LoadSpec(targets=(parse_target(str(path)),), library_threads=1, max_body_bytes=1 << 25)
    made = Settings(**{"workers": 1, **settings})
    launcher = Launcher(made.start_method, load)
    launcher.warm_up()
    launcher.open()
    engine = SupervisedEngine(
        settings=made,
        workers=made.workers,
        launcher=launcher,
        load=load,
        metrics=WorkerRows(made.workers + made.spares),
    )
    events = RecordedEvents()
    try:
        await engine.open(events)
        yield engine, events
    finally:
        await engine.close(2.0)
        await launcher.close()
