"""The scenario `account`: where the price of one no-op job goes.

Lives here: one service under 64 callers, looked at with one tool after the other, so that no tool's own price is in
another's figures; then a service that counts what its event loop is asked, and one that counts calls of functions.
`account_tables` writes it down; `make bench account OPTIONS="--files tests/benchmark"` keeps it.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import orjson

from tests.benchmark import account_tables, stages, threads, tracing
from tests.benchmark.children import Server, load, running, start_load
from tests.benchmark.errors import BenchError
from tests.benchmark.load import LoadPlan, LoadResult
from tests.benchmark.options import Options, say
from tests.benchmark.report import Report
from tests.benchmark.systems import NOOP_BODY, OURS, Command, Start, System

SERVICE: Final = "service"
WORKERS: Final = "workers"
REST: Final = "forkserver and guard"

_WORKERS: Final = 2
_CALLERS: Final = 64
_WARM_UP_S: Final = 0.5
_ATTACH_S: Final = 2.0  # for a profiler to begin while the load runs already
_RARE: Final = 0.02  # times a job: what happens less often is not of the job, but of connections and timers
_MOST_UNKNOWN: Final = 5
_US_PER_S: Final = 1e6


@dataclass(slots=True)
class Account:
    """What one no-op job costs.  By role (`SERVICE`, `WORKERS`, `REST`); `notes` say what could not be counted."""

    load: LoadResult
    costs: dict[str, threads.Counts]  # of the whole load
    us_by_stage: dict[str, dict[str, float]] = field(default_factory=dict)
    unknown: dict[str, float] = field(default_factory=dict)  # share of the samples, by code that no stage names
    tracer: str = ""
    system_calls: dict[str, dict[str, float]] = field(default_factory=dict)
    loop: dict[str, float] = field(default_factory=dict)
    calls: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def run(options: Options) -> Report:
    """Drives the service for `options.seconds` with each of the tools."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        account = _account(options.seconds, folder)
        _try(account, lambda: _count_loop(account, options.seconds, folder))
        _try(account, lambda: _count_calls(account, options.seconds, folder))
    return account_tables.write(account)


def _account(seconds: float, folder: Path) -> Account:
    with running(OURS, workers=_WORKERS) as server:
        load(_plan(server, min(seconds, _WARM_UP_S)))
        roles = _roles(server)
        say("account: CPU time and wake-ups")
        before = {pid: threads.counts(pid) for pid in roles}
        result = load(_plan(server, seconds))
        spent = {pid: threads.since(before[pid], threads.counts(pid)) for pid in roles}
        costs: dict[str, threads.Counts] = {}
        for pid, role in roles.items():
            costs[role] = sum(spent[pid].values(), costs.get(role, threads.Counts()))
        account = Account(load=result, costs=costs)
        looked_at = {pid: role for pid, role in roles.items() if role != REST}
        _try(account, lambda: _share_out(account, looked_at, spent, _stacks(server, [*looked_at], seconds, folder)))
        _try(account, lambda: _trace(account, server, looked_at, seconds, folder))
    return account


def _try(account: Account, count: Callable[[], None]) -> None:
    """What cannot be counted here is told, and the rest goes on."""
    try:
        count()
    except BenchError as error:
        account.notes.append(str(error))


def _plan(server: Server, seconds: float) -> LoadPlan:
    return LoadPlan(port=server.port, path="/jobs/noop", body=NOOP_BODY, connections=_CALLERS, seconds=seconds)


def _roles(server: Server) -> dict[int, str]:
    """Of each process."""
    workers = {worker["pid"] for worker in server.stats()["workers"]}
    return {
        process.pid: SERVICE if process.pid == server.pid else WORKERS if process.pid in workers else REST
        for process in server.family()
    }


def _stacks(server: Server, pids: Sequence[int], seconds: float, folder: Path) -> Mapping[int, str]:
    """What py-spy saw, by process."""
    say("account: stages")
    with (
        start_load(_plan(server, seconds + _ATTACH_S)) as running_load,
        tracing.sampled(pids, seconds, folder) as sampling,
    ):
        running_load.result()
    if not any(sampling.stacks.values()):
        raise BenchError("stages are not measured: py-spy may not look into other processes (run as root)")
    return sampling.stacks


def _share_out(
    account: Account,
    roles: Mapping[int, str],
    spent: Mapping[int, Mapping[int, threads.Counts]],
    stacks: Mapping[int, str],
) -> None:
    unknown: Counter[str] = Counter()
    seen = 0
    for pid, role in roles.items():
        table = stages.SERVICE if role == SERVICE else stages.WORKER
        samples = stages.read_samples(stacks.get(pid, ""), table)
        us_per_job = {
            thread: counts.cpu_s * _US_PER_S / max(account.load.answers, 1) for thread, counts in spent[pid].items()
        }
        shares = account.us_by_stage.setdefault(role, {})
        for stage, us in stages.share_out(samples, us_per_job).items():
            shares[stage] = shares.get(stage, 0.0) + us
        for one in samples.values():
            unknown.update(one.unknown)
            seen += one.stages.total()
    account.unknown = {name: times / max(seen, 1) for name, times in unknown.most_common(_MOST_UNKNOWN)}


def _trace(account: Account, server: Server, roles: Mapping[int, str], seconds: float, folder: Path) -> None:
    tool = tracing.tracer()
    say(f"account: system calls ({tool.name})")
    with tracing.traced(tool, [*roles], folder) as calls:
        result = load(_plan(server, seconds))
    account.tracer = tool.name
    by_role: dict[str, Counter[str]] = {}
    for pid, role in roles.items():
        by_role.setdefault(role, Counter()).update(calls[pid])
    account.system_calls = {role: _per_job(counts, result.answers) for role, counts in by_role.items()}


def _count_loop(account: Account, seconds: float, folder: Path) -> None:
    say("account: what the event loop is asked")
    with running(_probed("loop", folder / "loop"), workers=_WORKERS) as server:
        counted, _, jobs = _count(server, seconds, folder / "loop")
    account.loop = _per_job(counted, jobs, rare=0.0)


def _count_calls(account: Account, seconds: float, folder: Path) -> None:
    """One worker, so that it is the one that tells what it counted."""
    say("account: calls of functions")
    with running(_probed("calls", folder / "calls"), workers=1) as server:
        service, worker, jobs = _count(server, seconds, folder / "calls")
    account.calls = {SERVICE: _per_job(service, jobs, rare=0.0), WORKERS: _per_job(worker, jobs, rare=0.0)}


def _count(server: Server, seconds: float, file: Path) -> tuple[Counter[str], Counter[str], int]:
    """What service and worker counted during a load, and the load's jobs."""
    load(_plan(server, min(seconds, _WARM_UP_S)))
    before = _counted_by_worker(server), _counted_by_service(server, file)
    jobs = load(_plan(server, seconds)).answers
    after = _counted_by_worker(server), _counted_by_service(server, file)
    for then, now in zip(before, after, strict=True):
        now.subtract(then)
    worker, service = after
    return service, worker, jobs


def _counted_by_service(server: Server, file: Path) -> Counter[str]:
    """Another line of its file."""
    lines = _lines(file)
    os.kill(server.pid, signal.SIGUSR2)
    server.wait_until("counting", lambda: len(_lines(file)) > len(lines))
    return Counter(orjson.loads(_lines(file)[-1]))


def _lines(file: Path) -> list[bytes]:
    """Whole ones."""
    return file.read_bytes().split(b"\n")[:-1] if file.exists() else []


def _counted_by_worker(server: Server) -> Counter[str]:
    status, body = server.request("POST", "/jobs/counted", "{}")
    if status != HTTPStatus.OK:
        raise BenchError(f"calls are not counted: {body.decode('utf-8', 'replace')}")
    return Counter(orjson.loads(body))


def _probed(kind: str, file: Path) -> System:
    """The service as it is, with one thing counted; see `probe`."""

    def command(start: Start) -> Command:
        usual = OURS.command(start)
        python_flags, (serve, *arguments) = usual.arguments[:3], usual.arguments[3:]
        assert python_flags == (sys.executable, "-m", "offload")
        probe_tasks = str(Path(__file__).with_name("probe_tasks.py"))
        words = (sys.executable, "-m", "tests.benchmark.probe", kind, str(file), serve, probe_tasks, *arguments)
        return Command(arguments=words, variables=usual.variables)

    return replace(OURS, command=command)


def _per_job(counts: Mapping[str, Any], jobs: int, *, rare: float = _RARE) -> dict[str, float]:
    """The most frequent first."""
    each = {name: times / max(jobs, 1) for name, times in Counter(counts).most_common()}
    return {name: times for name, times in each.items() if times >= rare}
