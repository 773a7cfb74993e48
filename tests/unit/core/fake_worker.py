"""Workers without processes, for the simulation: the true state of one slot's worker.

A worker runs its jobs in order and begins the next when the one before has ended, before that is reported. Only the
last job can be withdrawn, so all times are known as soon as a job is given. `FakeEngine` draws the probabilities and
reports.
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

# How late the timer may fire, as in an event loop.
TIMER_LATE_S: Final = 0.001
# How late an answer may be reported after the end of its run: usually, and while the loop is busy.
ANSWER_LATE_S: Final = 0.0002
LOOP_BUSY_S: Final = 0.02
# How long a run may last while an unbegun job waits behind it: a check just before its start is repeated after the
# patience, and again after the patience for this run.
LONGEST_AHEAD_S: Final = 2 * (PATIENCE_S + TICK_S + TIMER_LATE_S) + ANSWER_LATE_S + 1e-6


class State(Enum):
    """The reported state: a dead worker becomes DEAD when its death is reported."""

    STARTING = auto()
    UP = auto()
    STOPPING = auto()
    DEAD = auto()


# Looked up once: until Python 3.12 reading an enum member costs more than a call.
_UP: Final = State.UP
_BUSY: Final = SlotState.BUSY
_IDLE: Final = SlotState.IDLE


class Run:
    """One job that a worker holds. Instants; infinity means never. `is_held`: neither answered nor withdrawn."""

    __slots__ = ("begins_at", "ends_at", "given_at", "is_held", "job")

    def __init__(self, job: Job, *, given_at: float, begins_at: float) -> None:
        self.job = job
        self.given_at = given_at
        self.begins_at = begins_at
        self.ends_at = math.inf
        self.is_held = True


class Worker:
    """One slot's worker and its successors, each of its own generation.

    `given` counts the jobs that it was given. `has_died`: it does nothing more. `is_garbled`: its channel cannot be
    read.
    """

    __slots__ = ("generation", "given", "has_died", "is_garbled", "is_leaving", "runs", "slot", "state")

    def __init__(self, slot: SlotId) -> None:
        self.slot = slot
        self.generation = 0
        self.given = 0
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
        """Returns the state in which the scheduler must see the slot."""
        if self.state is _UP:
            return _BUSY if self.runs else _IDLE
        return SlotState.STOPPING if self.state is State.STOPPING else SlotState.ABSENT

    def jobs(self) -> list[Job]:
        return [run.job for run in self.runs]

    def give(self, job: Job, now: float) -> Run:
        """Adds a job, which begins after the others; the caller sets when it ends."""
        begins_at = max(now, self.runs[-1].ends_at) if self.runs else now
        run = Run(job, given_at=now, begins_at=math.inf if self.has_died else begins_at)
        self.runs.append(run)
        self.given += 1
        return run

    def check_room(self, job: Job, run_times: RunTimes) -> None:
        """Asserts that the job may wait here: all jobs are short and not measured, and the work ahead is bounded."""
        assert len(self.runs) < MAX_IN_SLOT, f"slot {self.slot} holds too many"
        for one in (self.runs[0].job, job):
            assert run_times.is_quiet_and_below(one.limits.index, MAX_AHEAD_S), f"{one!r} is long, loud or unknown"
            assert one.limits.memory_bytes is None, f"{one!r} is measured, and shares slot {self.slot}"
        ahead_s = 0.0
        for run in self.runs:
            ahead_s += run_times.expected_s(run.job.limits.index)
        assert ahead_s <= MAX_AHEAD_S * (1 + 1e-9), f"{job!r} is to wait {ahead_s} s"

    def take_back(self, job: Job, now: float) -> bool:
        """Removes the newest job, if it has not begun."""
        run = self.runs[-1]
        if run.begins_at <= now:
            return False
        self.check_patience(now)
        self.runs.pop()
        run.is_held = False
        return True

    def busy_since(self, now: float) -> float | None:
        """Returns when the present run began."""
        return next((run.begins_at for run in self.runs if run.begins_at <= now < run.ends_at), None)

    def answer(self) -> Run:
        """Removes and returns the first run, whose answer is reported."""
        run = self.runs.popleft()
        run.is_held = False
        if self.runs:
            self._check_wait(self.runs[0], run, until=run.ends_at)
        return run

    def die(self, now: float, *, is_garbled: bool) -> None:
        """Kills the worker: the present run will not end, and the others will not begin."""
        self.has_died = True
        self.is_garbled = is_garbled
        for run in self.runs:
            if run.begins_at > now:
                run.begins_at = math.inf
            if run.ends_at > now:
                run.ends_at = math.inf

    def end(self, now: float) -> list[Run]:
        """Ends the worker, whose death is reported; returns the runs that it held."""
        self.check_patience(now)
        lost = list(self.runs)
        for run in lost:
            run.is_held = False
        self.runs.clear()
        self.given += 1
        self.state = State.DEAD
        return lost

    def check_patience(self, now: float) -> None:
        """Asserts that no unbegun job waits behind a long one."""
        for current, following in pairwise(self.runs):
            if current.begins_at <= now < current.ends_at:
                self._check_wait(following, current, until=now)

    def _check_wait(self, run: Run, current: Run, *, until: float) -> None:
        """Checks from when `run` was given: `current` may have begun earlier, unreported because the loop was busy."""
        waited_s = until - max(current.begins_at, run.given_at)
        assert waited_s <= LONGEST_AHEAD_S, f"{run.job!r} waited {waited_s} s behind {current.job!r}"
