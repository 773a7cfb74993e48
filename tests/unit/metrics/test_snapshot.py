"""The snapshot: every key of `/stats`, always, in the documented order, with numbers that agree."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import orjson

from offload.core.job import Job
from offload.core.outcome import OverloadCause, Reason
from offload.metrics.layout import REJECTIONS, MetricsMemory
from offload.metrics.loop_lag import LoopLag
from offload.metrics.rates import Rates
from offload.metrics.recorder import Recorder
from offload.metrics.snapshot import (
    Facts,
    Instruments,
    PoolFacts,
    QueueClients,
    QueueFacts,
    ServiceFacts,
    WorkerFacts,
    snapshot,
)

START = 5000.0
SECOND_NS = 1_000_000_000

JOBS = dict.fromkeys(
    ("submitted", "succeeded", "failed", "timed_out", "cancelled", "crashed", "rejected", "queued", "running"), 0
)
SUMMARY = dict.fromkeys(("count", "mean", "p50", "p90", "p99", "p999", "max"), 0)
LATENCY_MS = {"queue": SUMMARY, "run": SUMMARY, "response": SUMMARY}
IDLE_SERVICE = {
    "service": {
        "name": "offload",
        "version": "1.2.3",
        "pid": 1,
        "state": "ready",
        "started_at": "2026-01-01T00:00:00.000000Z",
        "uptime_s": 10.0,
    },
    "jobs": JOBS,
    "latency_ms": LATENCY_MS,
    "rate": {"jobs_per_s_1s": 0, "jobs_per_s_10s": 0, "jobs_per_s_60s": 0},
    "rejections": dict.fromkeys(
        ("overloaded", "client-queue-full", "rate-limited", "quarantined", "draining", "starting"), 0
    ),
    "overloaded_by": dict.fromkeys(
        ("queue-full", "queue-bytes-full", "task-queue-full", "deadline-unreachable", "displaced"), 0
    ),
    "tasks": {
        "primes": {"jobs": JOBS, "latency_ms": LATENCY_MS},
        "sort": {"jobs": JOBS, "latency_ms": LATENCY_MS},
    },
    "workers": [
        {
            "lane": 0,
            "pid": 2,
            "state": "idle",
            "task": None,
            "job": None,
            "running_s": None,
            "jobs": 0,
            "busy_s": 0.0,
            "utilisation": 0.0,
            "rss_bytes": 4096,
            "started_at": "2026-01-01T00:00:01.000000Z",
            "restarts": 0,
        }
    ],
    "pool": {
        "engine": "supervised",
        "size": 1,
        "spares": 0,
        "start_method": "forkserver",
        "capabilities": {"stops_running_jobs": True},
        "error": None,
        "restarts": {"crash": 0, "timeout": 0, "cancel": 0, "memory": 0, "retire": 0},
    },
    "queue": {
        "limit": 1000,
        "bytes": 0,
        "limit_bytes": 1 << 20,
        "arriving_bytes": 0,
        "leaving_bytes": 0,
        "expected_wait_ms": 0.0,
        "by_urgency": [0, 0, 0, 0, 0, 0, 0, 0],
        "clients": {"waiting": 0, "most_queued": 0},
        "quarantined": 0,
    },
    "loop": {"lag_ms": {"p50": 0, "p99": 0, "max": 0}},
}

WORKER = WorkerFacts(
    lane=0,
    pid=2,
    state="idle",
    task=None,
    job=None,
    running_s=None,
    rss_bytes=4096,
    started_at="2026-01-01T00:00:01.000000Z",
    restarts=0,
)
FACTS = Facts(
    service=ServiceFacts(
        name="offload", version="1.2.3", pid=1, state="ready", started_at="2026-01-01T00:00:00.000000Z", uptime_s=10.0
    ),
    queued_by_task=[0, 0],
    running_by_task=[0, 0],
    workers=[WORKER],
    pool=PoolFacts(
        engine="supervised",
        size=1,
        spares=0,
        start_method="forkserver",
        capabilities={"stops_running_jobs": True},
        error=None,
        restarts={"crash": 0, "timeout": 0, "cancel": 0, "memory": 0, "retire": 0},
    ),
    queue=QueueFacts(
        limit=1000,
        bytes=0,
        limit_bytes=1 << 20,
        arriving_bytes=0,
        leaving_bytes=0,
        expected_wait_ms=0.0,
        by_urgency=[0] * 8,
        clients=QueueClients(waiting=0, most_queued=0),
        quarantined=0,
    ),
)


def new_instruments() -> Instruments:
    memory = MetricsMemory(tasks=2, lanes=1)
    return Instruments(
        memory=memory, recorder=Recorder(memory, ["primes", "sort"]), rates=Rates(START), loop_lag=LoopLag(START)
    )


def take(instruments: Instruments, facts: Facts = FACTS) -> dict[str, Any]:
    """Returns the document as callers receive it."""
    document: dict[str, Any] = orjson.loads(orjson.dumps(snapshot(instruments, facts, START + 10)))
    return document


def test_an_idle_service_has_every_key_in_the_documented_order() -> None:
    document = take(new_instruments())
    assert document == IDLE_SERVICE
    assert shape(document) == shape(IDLE_SERVICE)


def test_the_keys_are_the_same_after_every_outcome(ended_job: Callable[..., Job]) -> None:
    instruments = new_instruments()
    for reason in Reason:
        instruments.recorder.count_submission(1)
        instruments.recorder.count_outcome(ended_job(reason, task_index=1))
    assert shape(take(instruments)) == shape(IDLE_SERVICE)


def test_the_counters_add_up_in_the_document(ended_job: Callable[..., Job]) -> None:
    instruments = new_instruments()
    for task_index in (0, 0, 1, 1, 1):
        instruments.recorder.count_submission(task_index)
    instruments.recorder.count_outcome(ended_job(Reason.SUCCEEDED, task_index=0))
    instruments.recorder.count_outcome(ended_job(Reason.OVERLOADED, task_index=1))
    document = take(instruments, dataclasses.replace(FACTS, queued_by_task=[1, 0], running_by_task=[0, 2]))
    assert document["jobs"] == {**JOBS, "submitted": 5, "succeeded": 1, "rejected": 1, "queued": 1, "running": 2}
    assert document["tasks"]["primes"]["jobs"] == {**JOBS, "submitted": 2, "succeeded": 1, "queued": 1}
    assert document["tasks"]["sort"]["jobs"] == {**JOBS, "submitted": 3, "rejected": 1, "running": 2}
    assert document["rejections"] == {**dict.fromkeys(REJECTIONS, 0), "overloaded": 1}
    assert document["overloaded_by"] == {**dict.fromkeys(map(str, OverloadCause), 0), "queue-full": 1}


def test_latencies_rates_and_lag_come_from_the_instruments(ended_job: Callable[..., Job]) -> None:
    instruments = new_instruments()
    instruments.recorder.count_outcome(ended_job(began_s=0.25, end_s=1.0, run_s=0.5))
    instruments.rates.tick(START + 10, 50)
    instruments.loop_lag.record(0.002, START + 10)
    document = take(instruments)
    assert document["latency_ms"]["run"]["p50"] == document["tasks"]["primes"]["latency_ms"]["run"]["p50"] == 500.0
    assert document["rate"]["jobs_per_s_10s"] == 5.0
    assert document["loop"]["lag_ms"] == {"p50": 2.0, "p99": 2.0, "max": 2.0}


def test_a_worker_shows_the_numbers_of_its_row() -> None:
    instruments = new_instruments()
    row = instruments.memory.workers.worker_row(0)
    row.begin(1, 100 * SECOND_NS)
    row.end(104 * SECOND_NS)
    worker = take(instruments)["workers"][0]
    assert (worker["jobs"], worker["busy_s"], worker["utilisation"]) == (1, 4.0, 0.4)


def test_the_busy_time_of_a_busy_worker_includes_the_running_job() -> None:
    instruments = new_instruments()
    instruments.memory.workers.worker_row(0).begin(1, time.monotonic_ns() - 5 * SECOND_NS)
    busy = dataclasses.replace(WORKER, state="busy", task="primes", job="one", running_s=5.00049)
    worker = take(instruments, dataclasses.replace(FACTS, workers=[busy]))["workers"][0]
    assert (worker["state"], worker["task"], worker["job"], worker["running_s"]) == ("busy", "primes", "one", 5.0)
    assert worker["busy_s"] >= 5.0
    assert 0.5 <= worker["utilisation"] <= 1.0


def shape(value: Any) -> Any:
    """Returns the keys of a document in their order, without the values."""
    if isinstance(value, dict):
        return [(key, shape(member)) for key, member in value.items()]
    if isinstance(value, list):
        return [shape(member) for member in value]
    return None
