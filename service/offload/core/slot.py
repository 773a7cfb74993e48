"""The scheduler's view of one place where a job can run, as a table of states.

      ABSENT ──ready──► IDLE ──start──► BUSY ──finish──► IDLE
         ▲               │               │ └──stop──► STOPPING ──finish──► IDLE
         └──────die──────┴───────────────┴───────────────┘

A slot stays occupied until its work has really ended: between the order to stop and the end of the work it is
STOPPING, and no other job may use it. Short jobs may wait in a slot behind the one that runs. An illegal step raises
IllegalStep and changes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from offload.core.job import Job, SlotId
from offload.core.queue.work import Work
from offload.errors import IllegalStep


class SlotState(StrEnum):
    ABSENT = "absent"
    IDLE = "idle"
    BUSY = "busy"
    STOPPING = "stopping"


class SlotEvent(StrEnum):
    READY = "ready"
    START = "start"
    FINISH = "finish"
    STOP = "stop"
    DIE = "die"


# Looked up once: until Python 3.12 reading an enum member costs more than a call, and these are read for every job.
_START: Final = SlotEvent.START
_FINISH: Final = SlotEvent.FINISH
_BUSY: Final = SlotState.BUSY

_STEPS: Final[Mapping[tuple[SlotState, SlotEvent], SlotState]] = {
    (SlotState.ABSENT, SlotEvent.READY): SlotState.IDLE,
    (SlotState.IDLE, SlotEvent.START): SlotState.BUSY,
    (SlotState.BUSY, SlotEvent.FINISH): SlotState.IDLE,
    (SlotState.BUSY, SlotEvent.STOP): SlotState.STOPPING,
    (SlotState.STOPPING, SlotEvent.FINISH): SlotState.IDLE,
    (SlotState.ABSENT, SlotEvent.DIE): SlotState.ABSENT,
    (SlotState.IDLE, SlotEvent.DIE): SlotState.ABSENT,
    (SlotState.BUSY, SlotEvent.DIE): SlotState.ABSENT,
    (SlotState.STOPPING, SlotEvent.DIE): SlotState.ABSENT,
}


class Slot:
    """`job` occupies the slot, whether it is settled or not. `generation` is that of the present worker.

    `waiting` are jobs that the worker holds as well, in order; it begins them by itself. `waiting_work` counts them by
    task, `settled_waiting` those that have ended and could not be withdrawn. `is_leaving`: the worker retires after
    the jobs that it holds. `busy_until` is the instant at which `job` is expected to end. `is_watched`: prefetch knows
    when to check whether `job` holds up those that wait.
    """

    __slots__ = (
        "_state",
        "busy_until",
        "generation",
        "id",
        "is_leaving",
        "is_watched",
        "job",
        "settled_waiting",
        "waiting",
        "waiting_work",
    )

    def __init__(self, id: SlotId) -> None:
        self.id = id
        self.generation = 0
        self.job: Job | None = None
        self.waiting: deque[Job] = deque()
        self.waiting_work = Work()
        self.settled_waiting = 0
        self.is_watched = False
        self.is_leaving = False
        self.busy_until = 0.0
        self._state = SlotState.ABSENT

    def __repr__(self) -> str:
        return f"<Slot {self.id} {self._state} generation={self.generation} job={self.job!r}>"

    @property
    def state(self) -> SlotState:
        return self._state

    @property
    def is_idle(self) -> bool:
        return self._state is SlotState.IDLE

    def jobs(self) -> list[Job]:
        """Returns all jobs that the worker holds, in order."""
        return [] if self.job is None else [self.job, *self.waiting]

    def attach_worker(self, generation: int) -> None:
        """A worker of this generation is ready."""
        self._step(SlotEvent.READY)
        self.generation = generation
        self.is_leaving = False

    def detach_worker(self) -> None:
        """The worker is gone, and its work with it."""
        self._step(SlotEvent.DIE)
        self.job = None

    def occupy(self, job: Job) -> None:
        self._step(_START)
        self.job = job

    def advance(self) -> Job:
        """The work has ended and the worker is at the next job that it holds, which is returned."""
        if self._state is not _BUSY:
            raise IllegalStep(thing=f"slot {self.id}", state=self._state, event="advance")
        self.job = job = self.waiting[0]
        self.drop_waiting(job)
        return job

    def stop_work(self) -> None:
        """The job is settled and its work is being stopped."""
        self._step(SlotEvent.STOP)

    def vacate(self) -> None:
        """The work has ended."""
        self._step(_FINISH)
        self.job = None

    def add_waiting(self, job: Job) -> None:
        self.waiting.append(job)
        self.waiting_work.add(job)

    def drop_waiting(self, job: Job) -> None:
        """Remove the first or the last waiting job."""
        waiting = self.waiting
        if job is waiting[0]:
            waiting.popleft()
        else:
            waiting.pop()
        self.waiting_work.subtract(job)
        if job.outcome is not None:
            self.settled_waiting -= 1

    def _step(self, event: SlotEvent) -> None:
        to = _STEPS.get((self._state, event))
        if to is None:
            raise IllegalStep(thing=f"slot {self.id}", state=self._state, event=event)
        self._state = to
