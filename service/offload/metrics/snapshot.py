"""The document behind `/stats`: everything measured, as plain dicts with the keys of the HTTP interface.

Lives here: the document's shape and order, and the facts that it needs beside what was measured.  Nothing is measured
or counted here, and nothing is encoded.  The service collects the facts and calls `snapshot` on the event loop, so it
must cost far less than a millisecond.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from offload.metrics.layout import MetricsMemory
from offload.metrics.loop_lag import LoopLag
from offload.metrics.rates import Rates
from offload.metrics.recorder import JobCounts, Recorder

RESTARTS: Final = ("crash", "timeout", "cancel", "memory", "retire")

_NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """Everything that measures; made once, by the composition root."""

    memory: MetricsMemory
    recorder: Recorder
    rates: Rates
    loop_lag: LoopLag


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFacts:
    """`started_at` is ISO 8601, UTC."""

    name: str
    version: str
    pid: int
    state: str
    started_at: str
    uptime_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFacts:
    """What the parent knows of a lane and its present worker; None where there is none.

    `task` and `job` are the name and the id of what runs, `running_s` since when; `restarts` counts the lane's
    replacements.
    """

    lane: int
    pid: int | None
    state: str
    task: str | None
    job: str | None
    running_s: float | None
    rss_bytes: int
    started_at: str | None
    restarts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFacts:
    """`error` says why start-ups keep failing, None if they do not.  `restarts` has keys of `RESTARTS`."""

    engine: str
    size: int
    spares: int
    start_method: str | None
    capabilities: Mapping[str, bool]
    error: str | None
    restarts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFacts:
    """`by_urgency` has as many numbers as there are urgencies.  `clients` have jobs waiting, the one with the most
    `most_of_a_client`; who they are is not told.  `quarantined` jobs are refused because they kill their workers."""

    limit: int
    bytes: int
    limit_bytes: int
    arriving_bytes: int
    leaving_bytes: int
    expected_wait_ms: float
    by_urgency: Sequence[int]
    clients: int
    most_of_a_client: int
    quarantined: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the snapshot cannot measure, at one moment.

    `queued_by_task` and `running_by_task` are by the tasks' indices.  Spares are not in `workers`.
    """

    service: ServiceFacts
    queued_by_task: Sequence[int]
    running_by_task: Sequence[int]
    workers: Sequence[WorkerFacts]
    pool: PoolFacts
    queue: QueueFacts


def snapshot(instruments: Instruments, facts: Facts, now: float) -> dict[str, Any]:
    """The whole document at `now`, monotonic seconds.  Every key is always there."""
    recorder = instruments.recorder
    return {
        "service": _service(facts.service),
        "jobs": _jobs(recorder.totals, sum(facts.queued_by_task), sum(facts.running_by_task)),
        "latency_ms": recorder.overall_latency_ms(),
        "rate": instruments.rates.summary(now),
        "rejections": recorder.rejections(),
        "overloaded_by": recorder.overloaded_by(),
        "tasks": {
            name: {
                "jobs": _jobs(recorder.counts(index), facts.queued_by_task[index], facts.running_by_task[index]),
                "latency_ms": recorder.latency_ms(index),
            }
            for index, name in enumerate(recorder.task_names)
        },
        "workers": [_worker(worker, instruments.memory, facts.service.uptime_s) for worker in facts.workers],
        "pool": _pool(facts.pool),
        "queue": _queue(facts.queue),
        "loop": {"lag_ms": instruments.loop_lag.summary()},
    }


def _service(facts: ServiceFacts) -> dict[str, Any]:
    return {
        "name": facts.name,
        "version": facts.version,
        "pid": facts.pid,
        "state": facts.state,
        "started_at": facts.started_at,
        "uptime_s": round(facts.uptime_s, 3),
    }


def _jobs(counts: JobCounts, queued: int, running: int) -> dict[str, int]:
    return {**counts._asdict(), "queued": queued, "running": running}


def _worker(facts: WorkerFacts, memory: MetricsMemory, uptime_s: float) -> dict[str, Any]:
    row = memory.worker_row(facts.lane)
    busy_s = row.busy_ns() / _NS_PER_S
    return {
        "lane": facts.lane,
        "pid": facts.pid,
        "state": facts.state,
        "task": facts.task,
        "job": facts.job,
        "running_s": None if facts.running_s is None else round(facts.running_s, 3),
        "jobs": row.jobs,
        "busy_s": round(busy_s, 3),
        # Of the lane's whole life, and lanes are as old as the service: start-ups and pauses count as not busy.
        "utilisation": round(min(busy_s / uptime_s, 1.0), 4) if uptime_s > 0 else 0.0,
        "rss_bytes": facts.rss_bytes,
        "started_at": facts.started_at,
        "restarts": facts.restarts,
    }


def _pool(facts: PoolFacts) -> dict[str, Any]:
    return {
        "engine": facts.engine,
        "size": facts.size,
        "spares": facts.spares,
        "start_method": facts.start_method,
        "capabilities": dict(facts.capabilities),
        "error": facts.error,
        "restarts": {why: facts.restarts.get(why, 0) for why in RESTARTS},
    }


def _queue(facts: QueueFacts) -> dict[str, Any]:
    return {
        "limit": facts.limit,
        "bytes": facts.bytes,
        "limit_bytes": facts.limit_bytes,
        "arriving_bytes": facts.arriving_bytes,
        "leaving_bytes": facts.leaving_bytes,
        "expected_wait_ms": round(facts.expected_wait_ms, 3),
        "by_urgency": list(facts.by_urgency),
        "clients": {"waiting": facts.clients, "most_queued": facts.most_of_a_client},
        "quarantined": facts.quarantined,
    }
