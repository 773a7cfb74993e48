"""The interface between scheduling and engines: what an engine does, what it can promise, and the events it reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypedDict

from offload.core.death import Death
from offload.core.job import Job, SlotId
from offload.core.outcome import Ended, Reason
from offload.metrics.layout import WorkerRows
from offload.metrics.snapshot import PoolFacts, WorkerFacts
from offload.settings.table import Settings
from offload.wire.spec import LoadSpec

if TYPE_CHECKING:
    from offload.processes.launcher import Launcher


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The promises that an engine keeps; shown in `/stats`.

    `isolates_deaths`: the end of a worker, even a kill by the service, costs its own job only.
    `starts_before_jobs`: tasks are loaded and hooks called before a worker takes jobs, and failures are reported then.
    `ends_with_service`: workers end with the service, however it ends. `knows_who_printed`: what a job prints is logged
    with its id. `prefetches`: short jobs wait in a worker. `keeps_spares`, `retires_workers`: `--spares` and
    `--max-…-per-worker` can be used.
    """

    stops_running_jobs: bool = False
    names_deaths: bool = False
    limits_memory: bool = False
    knows_what_had_begun: bool = False
    isolates_deaths: bool = False
    starts_before_jobs: bool = False
    ends_with_service: bool = False
    knows_who_printed: bool = False
    prefetches: bool = False
    keeps_spares: bool = False
    retires_workers: bool = False
    unpickles_results: bool = True

    def as_dict(self) -> dict[str, bool]:
        return asdict(self)


FULL_CAPABILITIES: Final = Capabilities(
    stops_running_jobs=True,
    names_deaths=True,
    limits_memory=True,
    knows_what_had_begun=True,
    isolates_deaths=True,
    starts_before_jobs=True,
    ends_with_service=True,
    knows_who_printed=True,
    prefetches=True,
    keeps_spares=True,
    retires_workers=True,
    unpickles_results=False,
)


class EngineEvents(Protocol):
    """What an engine reports, on the event loop's thread.

    `ended`: the jobs of the slot that have ended, in their order, as many as were received together. `begun`: how many
    of its jobs, in their order, may have begun. `is_leaving`: the worker takes no more jobs and ends after those that
    it has.
    """

    def slot_added(self, slot: SlotId) -> None: ...
    def slot_removed(self, slot: SlotId) -> None: ...
    def ready(self, slot: SlotId, generation: int) -> None: ...
    def finished(self, slot: SlotId, generation: int, ended: Sequence[Ended], *, is_leaving: bool = False) -> None: ...
    def died(self, slot: SlotId, generation: int, death: Death, *, begun: int) -> None: ...
    def exceeded_memory(self, job: Job, *, peak_bytes: int) -> None: ...
    def failing_to_start(self) -> None: ...


class Engine(Protocol):
    """Where jobs run.

    `start` and `stop` return at once and never raise for what a worker does; an event reports the result. After `stop`
    the engine reports `died` (or `finished`) when the work has really ended; it never hits the next job. A slot may be
    given several jobs, which it runs in order. `withdraw` takes the newest back; True means that it had not begun and
    never will.

    `close` ends everything within about `grace_s` seconds, and may be called twice.
    """

    @property
    def name(self) -> str: ...
    @property
    def capabilities(self) -> Capabilities: ...
    async def open(self, events: EngineEvents) -> None: ...
    def start(self, slot: SlotId, job: Job) -> None: ...
    def stop(self, slot: SlotId, job: Job, why: Reason) -> None: ...
    def withdraw(self, slot: SlotId, job: Job) -> bool: ...
    async def close(self, grace_s: float) -> None: ...


class Ahead(Protocol):
    """For workers that may hold several jobs: `withdraw` as in `Engine`; `busy_since` is the instant at which the
    running job began, None if none runs."""

    def withdraw(self, slot: SlotId, job: Job) -> bool: ...
    def busy_since(self, slot: SlotId) -> float | None: ...


class ServedEngine(Engine, Protocol):
    """An engine with what `/stats` shows. `ahead`: None if a slot takes one job at a time."""

    @property
    def ahead(self) -> Ahead | None: ...
    def worker_facts(self) -> list[WorkerFacts]: ...
    def pool_facts(self) -> PoolFacts: ...


class EngineParts(TypedDict):
    """What an engine is made from."""

    settings: Settings
    workers: int
    launcher: Launcher
    load: LoadSpec
    metrics: WorkerRows
