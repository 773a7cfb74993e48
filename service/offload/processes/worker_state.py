"""The life of a worker, as a table, and the ways in which it ends.

Lives here: the states of a lane's worker, what makes one end, and the record of an end.  Only `Lane` steps from one
state to another; the engine and the statistics read.

      DEAD ──start──► STARTING ──READY──► IDLE ◄──job / answer──► BUSY
        ▲                │                 │                       │
        └───the end──────┴────── KILLING or RETIRING ◄─────────────┘
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
    """Why a worker ended; the keys of `/stats`'s `pool.restarts`."""

    CRASH = "crash"
    TIMEOUT = "timeout"
    CANCEL = "cancel"
    MEMORY = "memory"
    RETIRE = "retire"


# What a job's end that we bring about means for its worker.
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
    """How a worker ended; `pid` is None if it never was one, `start_ticks` as in `proctree.ProcessInfo`.

    `was_ready`: it had come as far as taking jobs.  `begun`: how many of the jobs that it had, in their order, it may
    have begun.
    """

    pid: int | None
    start_ticks: int
    death: Death
    cause: EndCause
    was_ready: bool
    begun: int
    error: str
