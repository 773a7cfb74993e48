"""The states of a worker process as a transition table, and the causes of its end.

DEAD ──start──► STARTING ──READY──► IDLE ◄──job / answer──► BUSY
  ▲                │                 │                       │
  └────it ends─────┴────── KILLING or RETIRING ◄─────────────┘
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from offload.core.death import Death
from offload.core.outcome import Reason


class WorkerState(StrEnum):
    DEAD = "dead"
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    KILLING = "killing"
    RETIRING = "retiring"


STEPS: Final[Mapping[WorkerState, frozenset[WorkerState]]] = {
    WorkerState.DEAD: frozenset({WorkerState.STARTING}),
    WorkerState.STARTING: frozenset({WorkerState.IDLE, WorkerState.KILLING, WorkerState.DEAD}),
    WorkerState.IDLE: frozenset({WorkerState.BUSY, WorkerState.KILLING, WorkerState.RETIRING, WorkerState.DEAD}),
    WorkerState.BUSY: frozenset({WorkerState.IDLE, WorkerState.KILLING, WorkerState.RETIRING, WorkerState.DEAD}),
    WorkerState.KILLING: frozenset({WorkerState.DEAD}),
    WorkerState.RETIRING: frozenset({WorkerState.KILLING, WorkerState.DEAD}),
}


class EndCause(StrEnum):
    """Why a worker ended; the keys of `pool.restarts` in `/stats`."""

    CRASH = "crash"
    TIMEOUT = "timeout"
    CANCEL = "cancel"
    MEMORY = "memory"
    RETIRE = "retire"


# Why a worker ends when the service stops its job.
STOP_CAUSES: Final[Mapping[Reason, EndCause]] = {
    Reason.JOB_TIMEOUT: EndCause.TIMEOUT,
    Reason.DEADLINE_EXCEEDED: EndCause.TIMEOUT,
    Reason.CANCELLED: EndCause.CANCEL,
    Reason.DISCONNECTED: EndCause.CANCEL,
    Reason.STOPPED: EndCause.CANCEL,
    Reason.MEMORY_LIMIT: EndCause.MEMORY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnd:
    """How a worker ended. `pid`: None if no process was started; `start_ticks` as in `proctree.ProcessInfo`.

    `was_ready`: it had been ready for jobs. `begun`: how many of its jobs, in their order, it may have begun.
    """

    pid: int | None
    start_ticks: int
    death: Death
    cause: EndCause
    was_ready: bool
    begun: int
    error: str
