"""An engine without processes: the test is the worker.

A job that is started waits until the test ends it with `finish` or `die`, or, where `answer` is set, is answered by
itself in the next turn of the loop.  It keeps the rules of `engines.base.Engine`, generations included.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from offload.core.death import Death
from offload.core.job import Job, SlotId
from offload.core.outcome import Outcome, Reason
from offload.engines.base import FULL_CAPABILITIES, EngineEvents
from offload.wire.shared_bytes import SharedBytes

KILLED = Death(signal="SIGKILL")


def body_of(job: Job) -> bytes:
    """The body as a worker would read it, wherever it lies."""
    body = cast(bytes | SharedBytes, job.request.body)
    return body.read(0, len(body)) if isinstance(body, SharedBytes) else bytes(body)


def result(body: bytes = b"null", media_type: str = "application/json", run_s: float = 0.001) -> Outcome:
    return Outcome(reason=Reason.SUCCEEDED, body=body, media_type=media_type, run_s=run_s)


class FakeEngine:
    """`slots` workers; `answer` makes the outcome of each job as it starts, None leaves them to the test."""

    name = "fake"
    capabilities = FULL_CAPABILITIES

    def __init__(self, slots: int = 1, answer: Callable[[Job], Outcome] | None = None) -> None:
        self.answer = answer
        self.started: asyncio.Queue[Job] = asyncio.Queue()
        self.stopped: list[tuple[Job, Reason]] = []
        self.running: dict[Job, SlotId] = {}
        self._generations = dict.fromkeys((SlotId(number) for number in range(slots)), 0)
        self._events: EngineEvents

    async def open(self, events: EngineEvents) -> None:
        self.connect(events)
        for slot in self._generations:
            self.become_ready(slot)

    def connect(self, events: EngineEvents) -> None:
        """Announces the slots, without a worker in any of them."""
        self._events = events
        for slot in self._generations:
            events.slot_added(slot)

    def become_ready(self, slot: SlotId) -> None:
        self._generations[slot] += 1
        self._events.ready(slot, self._generations[slot])

    def start(self, slot: SlotId, job: Job) -> None:
        self.running[job] = slot
        self.started.put_nowait(job)
        if self.answer is not None:
            asyncio.get_running_loop().call_soon(self._answer, job, self.answer)

    def stop(self, slot: SlotId, job: Job, why: Reason) -> None:
        self.stopped.append((job, why))
        asyncio.get_running_loop().call_soon(self.die, job)

    def withdraw(self, slot: SlotId, job: Job) -> bool:
        """It begins whatever it is given."""
        return False

    async def close(self, grace_s: float) -> None:
        self.running.clear()

    async def next_started(self) -> Job:
        """Waits for the next job that has reached a worker."""
        async with asyncio.timeout(10):
            return await self.started.get()

    def finish(self, job: Job, outcome: Outcome) -> None:
        """The worker has answered."""
        slot = self.running.pop(job)
        self._events.finished(slot, self._generations[slot], [(job.number, outcome)])

    def die(self, job: Job, death: Death = KILLED) -> None:
        """The worker has died under its job; the next one is ready at once."""
        slot = self.running.pop(job, None)
        if slot is not None:
            self._events.died(slot, self._generations[slot], death, begun=True)
            self.become_ready(slot)

    def _answer(self, job: Job, answer: Callable[[Job], Outcome]) -> None:
        if job in self.running:
            self.finish(job, answer(job))
