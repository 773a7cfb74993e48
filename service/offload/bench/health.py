"""The scenario `health`: whether the service still answers while its workers have every core.

Lives here: a load that keeps all cores busy and the queue filled, and a second, slow one on the paths that must stay
quick.  Its caller stands in line for the same cores, so the waits of the caller itself are part of the figures.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from offload.bench import report
from offload.bench.children import Server, load, running, start_load
from offload.bench.load import LoadPlan
from offload.bench.options import Options, say
from offload.bench.report import Report

PATHS: Final = ("/health/live", "/health/ready", "/stats")

_CALLERS: Final = 64
_JOB: Final = '{"ms": 20}'
_PAUSE_S: Final = 0.005
_START_S: Final = 5.0  # for the load to build up, and for the other generators to start


def run(options: Options) -> Report:
    """Measures each path for `options.seconds`, `options.rounds` times as long in all."""
    workers = report.usable_cores()
    seconds = options.seconds * options.rounds
    made = Report(title="Answers while every core is busy")
    with running("offload", workers=workers) as server:
        burning = LoadPlan(
            port=server.port,
            path="/jobs/burn",
            body=_JOB,
            connections=_CALLERS,
            seconds=(seconds + _START_S) * len(PATHS),
        )
        with start_load(burning):
            server.wait_until("busy", lambda: _is_saturated(server))
            rows = []
            for path in PATHS:
                say(f"health: {path}")
                result = load(LoadPlan(port=server.port, path=path, connections=1, seconds=seconds, pause_s=_PAUSE_S))
                rows.append([path, *report.percentile_cells(result.latency), str(result.failures or "none")])
                made.data[path] = asdict(result)
            is_still_saturated = _is_saturated(server)
    made.paragraphs = [
        f"{workers} workers on {report.usable_cores()} cores, {_CALLERS} callers waiting for jobs of 20 ms; "
        f"one more caller that asks again {_PAUSE_S * 1e3:.0f} ms after each answer.",
        report.table(("path", *report.PERCENTILE_HEAD, "failures"), rows),
    ]
    if not is_still_saturated:
        made.paragraphs.append("**The workers were not busy to the end**: these figures are of an idle service.")
    return made


def _is_saturated(server: Server) -> bool:
    stats = server.stats()
    return stats["jobs"]["queued"] > 0 and all(worker["state"] == "busy" for worker in stats["workers"])
