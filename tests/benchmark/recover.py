"""The scenario `recover`: how long the service is weaker after it lost workers, or after it stopped a job.

Lives here: killing workers of a server that the benchmark has started itself, setting jobs on it that never end, and
watching `/stats` and `/proc` for the consequences.  Each look costs the service something and happens once in about a
millisecond, which is how exact the figures are.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, Final

from tests.benchmark import cpu, report
from tests.benchmark.children import Server, running, start_load
from tests.benchmark.errors import BenchError
from tests.benchmark.figures import Percentiles, Spread
from tests.benchmark.load import LoadPlan
from tests.benchmark.options import Options, say
from tests.benchmark.report import Report
from tests.benchmark.systems import NOOP_BODY, OURS, System
from tests.benchmark.tasks import HANG_LIMIT_S
from tests.benchmark.turns import take_turns

_WORKERS: Final = 2
_KILLS: Final = 20
_LIMITS_A_ROUND: Final = 34  # three rounds are a hundred, so that the 99th percentile is not just the worst
_CALLERS: Final = 32
_LOAD_S: Final = 60.0  # a bound: the load is ended when the kills are over
_POLL_S: Final = 0.001
_MS_PER_S: Final = 1e3

_LIMIT_TO: Final = ("answered", "freed", "back")
_NAMES: Final = {
    "idle": "all workers killed while idle → all back",
    "loaded": f"all workers killed under {_CALLERS} callers → all back",
    "answered": "time limit → 504 answered",
    "freed": "time limit → CPU freed",
    "back": "time limit → lane back",
}


def run(options: Options) -> Report:
    """Kills and time limits, on an idle service and on one under load."""
    limits = options.rounds * _LIMITS_A_ROUND
    turns = take_turns("recover", options.services(), 1, lambda system: _measure(system, limits))
    measured = {system: latencies for system, (latencies,) in turns.results.items()}
    made = Report(title="Time to recover")
    made.paragraphs = [
        f"{_WORKERS} workers. Time limits: a job that burns a core, limited to {HANG_LIMIT_S * _MS_PER_S:.0f} ms; "
        "counted from the limit, and looked at one after the other, so that each is at least the one before.",
        report.table(
            ("system", "what", *report.PERCENTILE_HEAD),
            [
                [system, _NAMES[what], *report.percentile_cells(latency)]
                for system, latencies in measured.items()
                for what, latency in latencies.items()
            ],
        ),
        *turns.notes(),
    ]
    made.data = {
        system: {what: asdict(each) for what, each in latencies.items()} for system, latencies in measured.items()
    }
    ours = measured.get(OURS.name, {})
    made.figures = {f"{what}_p99_ms": Spread.of([ours[what].p99_ms]) for what in _LIMIT_TO if what in ours}
    return made


def _measure(system: System, limits: int) -> dict[str, Percentiles]:
    latencies: dict[str, Percentiles] = {}
    with running(system, workers=_WORKERS) as server:
        say(f"recover: {system.name}, {_KILLS} times all workers killed, idle")
        latencies["idle"] = _kill_often(server)
        say(f"recover: {system.name}, {_KILLS} times all workers killed, under load")
        callers = LoadPlan(port=server.port, path="/jobs/noop", body=NOOP_BODY, connections=_CALLERS, seconds=_LOAD_S)
        with start_load(callers):
            server.wait_until("busy", lambda: server.stats()["jobs"]["running"] > 0)
            latencies["loaded"] = _kill_often(server)
        say(f"recover: {system.name}, {limits} jobs that do not end")
        columns = zip(*(_time_out(server) for _ in range(limits)), strict=True)
        latencies |= {what: Percentiles.of(column) for what, column in zip(_LIMIT_TO, columns, strict=True)}
    return latencies


def _kill_often(server: Server) -> Percentiles:
    return Percentiles.of(_kill_all(server) for _ in range(_KILLS))


def _kill_all(server: Server) -> float:
    """Milliseconds from the first SIGKILL until as many other workers are at work."""
    killed = {process.pid for process in _workers(server)}
    began_s = time.perf_counter()
    for pid in killed:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.wait_until("at full strength", lambda: _is_whole(server.stats(), without=killed), poll_s=_POLL_S)
    return _ms_since(began_s)


def _time_out(server: Server) -> tuple[float, float, float]:
    """Milliseconds from the limit until the caller has its answer, the work has ended, every lane takes jobs."""
    workers = _workers(server)
    limit_s = time.perf_counter() + HANG_LIMIT_S
    status, body = server.request("POST", "/jobs/hang", "{}")
    answered_ms = _ms_since(limit_s)
    if status != HTTPStatus.GATEWAY_TIMEOUT:
        raise BenchError(f"a job over its time limit was answered with {status}: {body.decode('utf-8', 'replace')}")
    server.wait_until("rid of the job", lambda: not all(map(cpu.is_running, workers)), poll_s=_POLL_S)
    freed_ms = _ms_since(limit_s)
    stopped = {worker.pid for worker in workers if not cpu.is_running(worker)}
    server.wait_until("at full strength", lambda: _is_whole(server.stats(), without=stopped), poll_s=_POLL_S)
    return answered_ms, freed_ms, _ms_since(limit_s)


def _workers(server: Server) -> Sequence[cpu.Process]:
    """The workers, when all of them are at work.  Only those that are processes of this very server's."""
    server.wait_until("at full strength", lambda: _is_whole(server.stats(), without=set()), poll_s=_POLL_S)
    pids = {worker["pid"] for worker in server.stats()["workers"]}
    workers = [process for process in cpu.tree(server.pid) if process.pid in pids]
    if len(workers) != _WORKERS:
        raise BenchError(f"/stats names workers {sorted(pids)} that are no processes of {server.name}")
    return workers


def _is_whole(stats: dict[str, Any], *, without: set[int]) -> bool:
    """Whether every lane has a worker that takes jobs, and none of them is one of `without`."""
    workers = stats["workers"]
    return len(workers) == _WORKERS and all(
        worker["state"] in ("idle", "busy") and worker["pid"] not in without for worker in workers
    )


def _ms_since(instant_s: float) -> float:
    return (time.perf_counter() - instant_s) * _MS_PER_S
