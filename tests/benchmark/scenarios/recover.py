"""The scenario `recover`: how long the service is weaker after losing workers, or after stopping a job.

It kills workers, sends jobs that never end, and polls `/stats` and `/proc`, about once in a millisecond, which is the
precision of the figures.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

from tests.benchmark import proc, report
from tests.benchmark.errors import BenchError
from tests.benchmark.figures import Percentiles, Spread
from tests.benchmark.load.plan import Closed, LoadPlan
from tests.benchmark.options import Options, say
from tests.benchmark.processes import Server, running, start_load
from tests.benchmark.report import Report
from tests.benchmark.rounds import measure_in_rounds
from tests.benchmark.systems import NOOP_BODY, OFFLOAD, System
from tests.benchmark.tasks import HANG_TIMEOUT_S

_WORKERS: Final = 2
_KILLS: Final = 20
_TIMEOUTS_PER_ROUND: Final = 34  # three rounds are a hundred, so that the 99th percentile is not just the maximum
_CALLERS: Final = 32
_LOAD_S: Final = 60.0  # a bound: the load is ended after the kills
_MS_PER_S: Final = 1e3

_TIMEOUT_TO: Final = ("answered", "freed", "back")
_NAMES: Final = {
    "idle": "all workers killed while idle to all ready",
    "loaded": f"all workers killed under {_CALLERS} callers to all ready",
    "answered": "timeout to 504",
    "freed": "timeout to CPU freed",
    "back": "timeout to lane ready",
}


def run(options: Options) -> Report:
    """Kills and timeouts, on an idle service and under load."""
    timeouts = options.rounds * _TIMEOUTS_PER_ROUND
    services = [system for system in options.systems if system.is_service]
    rounds = measure_in_rounds("recover", services, 1, lambda system: _measure(system, timeouts))
    rows = [
        ((system, _NAMES[what]), [latency])
        for system, measured in rounds.results.items()
        for what, latency in measured[0].items()
    ]
    made = Report(title="Time to recover", data=rounds.results)
    made.paragraphs = [
        f"{_WORKERS} workers. Timeouts: a job that burns a core, with a timeout of "
        f"{HANG_TIMEOUT_S * _MS_PER_S:.0f} ms; counted from the timeout, and checked one after the other, so that each "
        "is at least the one before.",
        report.rounds_table(("system", "event"), report.latency_columns(_self), rows),
        *rounds.notes(),
    ]
    for measured in rounds.results.get(OFFLOAD.name, ()):
        made.figures = {f"{what}_p99_ms": Spread.of([measured[what].p99_ms]) for what in _TIMEOUT_TO}
    return made


def _self(latency: Percentiles) -> Percentiles:
    return latency


def _measure(system: System, timeouts: int) -> dict[str, Percentiles]:
    latencies: dict[str, Percentiles] = {}
    with running(system, workers=_WORKERS) as server:
        say(f"recover: {system.name}, all workers killed {_KILLS} times, idle")
        latencies["idle"] = Percentiles.of(_kill_all(server) for _ in range(_KILLS))
        say(f"recover: {system.name}, all workers killed {_KILLS} times, under load")
        schedule = Closed(connections=_CALLERS)
        callers = LoadPlan(port=server.port, path="/jobs/noop", schedule=schedule, body=NOOP_BODY, seconds=_LOAD_S)
        with start_load(callers):
            server.wait_until("busy", lambda: server.stats()["jobs"]["running"] > 0)
            latencies["loaded"] = Percentiles.of(_kill_all(server) for _ in range(_KILLS))
        say(f"recover: {system.name}, {timeouts} jobs that never end")
        columns = zip(*(_time_out(server) for _ in range(timeouts)), strict=True)
        latencies |= {what: Percentiles.of(column) for what, column in zip(_TIMEOUT_TO, columns, strict=True)}
    return latencies


def _kill_all(server: Server) -> float:
    """Returns the milliseconds from the first SIGKILL until as many new workers are ready."""
    killed = {process.pid for process in _workers(server)}
    began_s = time.perf_counter()
    for pid in killed:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _wait_until_all_ready(server, without=killed)
    return _ms_since(began_s)


def _time_out(server: Server) -> tuple[float, float, float]:
    """Returns the milliseconds from the timeout until the answer, the end of the work, and the lane being ready."""
    workers = _workers(server)
    timeout_s = time.perf_counter() + HANG_TIMEOUT_S
    status, body = server.request("POST", "/jobs/hang", "{}")
    answered_ms = _ms_since(timeout_s)
    if status != HTTPStatus.GATEWAY_TIMEOUT:
        raise BenchError(f"a job beyond its timeout was answered with {status}: {body.decode('utf-8', 'replace')}")
    server.wait_until("rid of the job", lambda: not all(map(proc.is_running, workers)))
    freed_ms = _ms_since(timeout_s)
    _wait_until_all_ready(server, without={worker.pid for worker in workers if not proc.is_running(worker)})
    return answered_ms, freed_ms, _ms_since(timeout_s)


def _workers(server: Server) -> Sequence[proc.Process]:
    """The workers once all are ready; only processes of this server."""
    _wait_until_all_ready(server, without=set())
    pids = {worker["pid"] for worker in server.stats()["workers"]}
    workers = [process for process in proc.tree(server.pid) if process.pid in pids]
    if len(workers) != _WORKERS:
        raise BenchError(f"/stats names workers {sorted(pids)} that are not processes of {server.system.name}")
    return workers


def _wait_until_all_ready(server: Server, *, without: set[int]) -> None:
    server.wait_until("ready with all workers", lambda: _are_all_ready(server.stats(), without))


def _are_all_ready(stats: dict[str, Any], without: set[int]) -> bool:
    """Whether every lane has a worker that takes jobs and is not one of `without`."""
    workers = stats["workers"]
    return len(workers) == _WORKERS and all(
        worker["state"] in ("idle", "busy") and worker["pid"] not in without for worker in workers
    )


def _ms_since(instant_s: float) -> float:
    return (time.perf_counter() - instant_s) * _MS_PER_S
