"""Workers without processes, for the simulation: what each was given, and when it is at what.

Lives here: the truth about one slot's worker.  It does its jobs in their order, and begins the next the moment that the
one before is over, whatever anybody knows of that yet.  As nothing can be taken back but what comes last, all times are
known as soon as a job is given.  `FakeEngine` draws the chances and reports.
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum, auto
from itertools import pairwise
from typing import Final

from offload.core.deadlines import TICK_S
from offload.core.job import Job, SlotId
from offload.core.prefetch import MAX_AHEAD_S, MAX_IN_SLOT, PATIENCE_S
from offload.core.run_times import RunTimes
from offload.core.slot import SlotState

# How late the driver's timer may fire, as an event loop's does.
TIMER_LATE_S: Final = 0.001
# How late an answer may be heard of after the end of its run: most often, and while the loop has other things to do.
ANSWER_LATE_S: Final = 0.0002
LOOP_BUSY_S: Final = 0.02
# So long may a run be behind which a job waits that has not begun: whoever looks just before it begins looks again when
# patience is over, and then when it is over for this run.
LONGEST_AHEAD_S: Final = 2 * (PATIENCE_S + TICK_S + TIMER_LATE_S) + ANSWER_LATE_S + 1e-6


class State(Enum):
    """As far as it was reported: a worker that has died is not DEAD before that."""

    STARTING = auto()
    UP = auto()
    STOPPING = auto()
    DEAD = auto()


# Looked up once: until Python 3.12 it costs more than a call to reach into an enum.
_UP: Final = State.UP
_BUSY: Final = SlotState.BUSY
_IDLE: Final = SlotState.IDLE


class Run:
    """One job in the hands of a worker.  Instants; infinity is never.  `is_held`: neither answered nor given up."""

    __slots__ = ("begins_at", "ends_at", "given_at", "is_held", "job")

    def __init__(self, job: Job, *, given_at: float, begins_at: float) -> None:
        self.job = job
        self.given_at = given_at
        self.begins_at = begins_at
        self.ends_at = math.inf
        self.is_held = True


class Worker:
    """One slot's worker and those that follow it, each of a generation of its own.

    `hand` counts what it was given, so that an old chance is known.  `has_died`: it does nothing any more.
    `is_garbled`: its channel holds nothing that could be read.
    """

    __slots__ = ("generation", "hand", "has_died", "is_garbled", "is_leaving", "runs", "slot", "state")

    def __init__(self, slot: SlotId) -> None:
        self.slot = slot
        self.generation = 0
        self.hand = 0
        self.state = State.DEAD
        self.runs: deque[Run] = deque()
        self.has_died = False
        self.is_garbled = False
        self.is_leaving = False

    def start(self) -> None:
        assert not self.runs
        self.state = State.STARTING
        self.generation += 1
        self.has_died = self.is_garbled = self.is_leaving = False

    @property
    def seen_as(self) -> SlotState:
        """What the scheduler must think of its slot."""
        if self.state is _UP:
            return _BUSY if self.runs else _IDLE
        return SlotState.STOPPING if self.state is State.STOPPING else SlotState.ABSENT

    def jobs(self) -> list[Job]:
        return [run.job for run in self.runs]

    def give(self, job: Job, now: float) -> Run:
        """One more job, which it begins when it is done with the others; when it ends is up to the caller."""
        begins_at = max(now, self.runs[-1].ends_at) if self.runs else now
        run = Run(job, given_at=now, begins_at=math.inf if self.has_died else begins_at)
        self.runs.append(run)
        self.hand += 1
        return run

    def check_room(self, job: Job, run_times: RunTimes) -> None:
        """One more job may wait here: all is short, nothing is measured, and no more than a little comes before."""
        assert len(self.runs) < MAX_IN_SLOT, f"slot {self.slot} holds too many"
        for one in (self.runs[0].job, job):
            assert run_times.is_quiet_and_below(one.limits.index, MAX_AHEAD_S), f"{one!r} is long, loud or unknown"
            assert one.limits.memory_bytes is None, f"{one!r} is measured, and shares slot {self.slot}"
        ahead_s = 0.0
        for run in self.runs:
            ahead_s += run_times.expected_s(run.job.limits.index)
        assert ahead_s <= MAX_AHEAD_S * (1 + 1e-9), f"{job!r} is to wait {ahead_s} s"

    def take_back(self, job: Job, now: float) -> bool:
        """The newest job, if it has not begun."""
        run = self.runs[-1]
        if run.begins_at <= now:
            return False
        self.check_patience(now)
        self.runs.pop()
        run.is_held = False
        return True

    def busy_since(self, now: float) -> float | None:
        """Since when it is at the run that it is at."""
        return next((run.begins_at for run in self.runs if run.begins_at <= now < run.ends_at), None)

    def answer(self) -> Run:
        """Its first job is done with: the answer is heard."""
        run = self.runs.popleft()
        run.is_held = False
        if self.runs:
            self._check_wait(self.runs[0], run, until=run.ends_at)
        return run

    def die(self, now: float, *, is_garbled: bool) -> None:
        """What is under way will never end, what has not begun will never begin."""
        self.has_died = True
        self.is_garbled = is_garbled
        for run in self.runs:
            if run.begins_at > now:
                run.begins_at = math.inf
            if run.ends_at > now:
                run.ends_at = math.inf

    def end(self, now: float) -> list[Run]:
        """Its death is reported: returns what it had."""
        self.check_patience(now)
        lost = list(self.runs)
        for run in lost:
            run.is_held = False
        self.runs.clear()
        self.hand += 1
        self.state = State.DEAD
        return lost

    def check_patience(self, now: float) -> None:
        """No job waits, not begun, behind one that takes long."""
        for current, following in pairwise(self.runs):
            if current.begins_at <= now < current.ends_at:
                self._check_wait(following, current, until=now)

    def _check_wait(self, run: Run, current: Run, *, until: float) -> None:
        """What had begun long before the run was given to this worker was not heard of: the loop was busy."""
        waited_s = until - max(current.begins_at, run.given_at)
        assert waited_s <= LONGEST_AHEAD_S, f"{run.job!r} waited {waited_s} s behind {current.job!r}"
