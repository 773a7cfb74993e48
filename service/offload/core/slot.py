"""The scheduler's view of one place to run a job.

Lives here: a slot's states and the table of its steps.  A slot stays occupied until its work is really over: between
the order to stop and the end of the work it is STOPPING, and nothing else may use it.  Short jobs may wait in it behind
the one that runs.  Only the scheduler moves it.

      ABSENT ──ready──► IDLE ──start──► BUSY ──finished──► IDLE
         ▲               │               │ └──stop──► STOPPING ──finished──► IDLE
         └─────died──────┴───────────────┴───────────────┘
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


# Looked up once: until Python 3.12 it costs more than a call to reach into an enum, and these are needed for every job.
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
    """One place to run a job; `job` is the one that occupies it, settled or not, `generation` its present worker's.

    `behind`: jobs that the worker has as well, in their order; it begins them without being told.  `work_behind` counts
    them by task, `settled_behind` those that have ended and could not be taken back.  `is_leaving`: the worker retires
    when it is done with what it has.  `busy_until`: when its job is expected to be over, an instant.  `is_watched`: it
    is known when to look whether those behind are held up.
    """

    __slots__ = (
        "_state",
        "behind",
        "busy_until",
        "generation",
        "id",
        "is_leaving",
        "is_watched",
        "job",
        "settled_behind",
        "work_behind",
    )

    def __init__(self, id: SlotId) -> None:
        self.id = id
        self.generation = 0
        self.job: Job | None = None
        self.behind: deque[Job] = deque()
        self.work_behind = Work()
        self.settled_behind = 0
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

    def take_worker(self, generation: int) -> None:
        """A worker of this generation is ready."""
        self._step(SlotEvent.READY)
        self.generation = generation
        self.is_leaving = False

    def jobs(self) -> list[Job]:
        """All that its worker has, in their order."""
        return [] if self.job is None else [self.job, *self.behind]

    def put_behind(self, job: Job) -> None:
        self.behind.append(job)
        self.work_behind.add(job)

    def leave_behind(self, job: Job) -> None:
        """The first or the last of those behind is none of them any more."""
        behind = self.behind
        if job is behind[0]:
            behind.popleft()
        else:
            behind.pop()
        self.work_behind.subtract(job)
        if job.outcome is not None:
            self.settled_behind -= 1

    def start(self, job: Job) -> None:
        self._step(_START)
        self.job = job

    def go_on(self) -> Job:
        """The work is over, and the worker at the next that it has, which is returned."""
        if self._state is not _BUSY:
            raise IllegalStep(thing=f"slot {self.id}", state=self._state, event="go on")
        self.job = job = self.behind[0]
        self.leave_behind(job)
        return job

    def stop(self) -> None:
        """Its job is settled, its work is not over yet."""
        self._step(SlotEvent.STOP)

    def finish(self) -> None:
        """The work is over."""
        self._step(_FINISH)
        self.job = None

    def die(self) -> None:
        """The worker is gone, and its work with it."""
        self._step(SlotEvent.DIE)
        self.job = None

    def _step(self, event: SlotEvent) -> None:
        to = _STEPS.get((self._state, event))
        if to is None:
            raise IllegalStep(thing=f"slot {self.id}", state=self._state, event=event)
        self._state = to
