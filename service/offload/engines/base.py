"""The seam between deciding and doing: what an engine is, and whom it reports to.

Lives here: two small protocols and the record of what an engine can do.  `dispatch` holds an engine and implements
`EngineEvents`; the engines implement `Engine`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Protocol

from offload.core.death import Death
from offload.core.job import Job, Outcome, Reason, SlotId


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an engine can do; shown in `/stats`.  What is False here is weaker than the promises and said so."""

    stops_running_jobs: bool
    names_deaths: bool
    limits_memory: bool
    knows_what_had_begun: bool
    unpickles_results: bool

    def as_dict(self) -> dict[str, bool]:
        return asdict(self)


class EngineEvents(Protocol):
    """Whom an engine tells what it sees.  All of it is called on the event loop's thread.

    `begun`: how many of the slot's jobs, in their order, may have begun.  `is_leaving`: the worker takes no more, and
    ends after what it has.
    """

    def slot_added(self, slot: SlotId) -> None: ...
    def slot_removed(self, slot: SlotId) -> None: ...
    def ready(self, slot: SlotId, generation: int) -> None: ...
    def finished(
        self, slot: SlotId, generation: int, number: int, outcome: Outcome, *, is_leaving: bool = False
    ) -> None: ...
    def died(self, slot: SlotId, generation: int, death: Death, *, begun: int) -> None: ...
    def exceeded_memory(self, job: Job, *, peak_bytes: int) -> None: ...
    def failing_to_start(self) -> None: ...


class Engine(Protocol):
    """Where jobs run.

    `start` and `stop` return at once and never raise for what a worker does; what comes of them is an event.  After
    `stop` the engine reports `died` (or `finished`) when the work is really over, and never hits the job that came
    after.  A slot may be given several jobs, which it runs in their order; `withdraw` takes the newest back, and says
    whether it could: True means that it had not begun and never will.

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
