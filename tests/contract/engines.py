"""The engines under contract, one row each, and a service without HTTP on each of them.

The capabilities of an engine are its promises. A test asserts what an engine does in both cases, whether it promises it
or not; nothing is skipped.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import orjson

from offload.core.job import Job
from offload.core.outcome import Outcome
from offload.core.request import JobHead, JobRequest, JobTerms
from offload.engines.base import Capabilities
from offload.service import Service
from offload.settings.table import Settings
from offload.wire.shared_bytes import SharedBytes
from tests.contract.factories import end_loky
from tests.support.packages import needed_package

TASKS: Final = Path(__file__).with_name("contract_tasks.py")
BOUND_S: Final = 30.0
WORKERS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`settings` select the engine, which needs the package `needs`; `end` ends what that package leaves running."""

    settings: dict[str, Any]
    needs: str = ""
    end: Callable[[], None] = lambda: None


_LOKY: Final = "tests.contract.factories:loky_executor"

ROWS: Final[dict[str, Row]] = {
    "supervised": Row(settings={"engine": "supervised"}),
    "pool": Row(settings={"engine": "pool"}),
    "executor": Row(settings={"engine": "executor"}),
    "dask": Row(settings={"engine": "dask"}, needs="distributed"),
    "ray": Row(settings={"engine": "ray"}, needs="ray"),
    "executor of loky": Row(settings={"engine": "executor", "executor": _LOKY}, needs="loky", end=end_loky),
}
# On these a job takes milliseconds and a death seconds, so the tests use fewer of them.
CLUSTERS: Final = ("dask", "ray")


class Running:
    """A service without its HTTP interface."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.engine = service._engine

    @property
    def is_on_cluster(self) -> bool:
        return self.engine.name in CLUSTERS

    @property
    def can(self) -> Capabilities:
        return self.engine.capabilities

    def stats(self) -> dict[str, Any]:
        """Returns the document of `/stats`."""
        document: dict[str, Any] = orjson.loads(orjson.dumps(self.service.stats()))
        return document

    def begin(
        self, name: str, arguments: dict[str, Any] | None = None, **request: Any
    ) -> tuple[Job, asyncio.Task[None]]:
        """Returns a job and the task that waits for it."""
        limits = self.service.catalogue[name].limits
        body = request.pop("body", json.dumps(arguments or {}).encode())
        head = JobHead(*(request.pop(name, "") for name in JobHead._fields))
        job = self.service.dispatcher.new_job(JobRequest(JobTerms(limits=limits, head=head, **request), body))
        return job, asyncio.create_task(self.service.dispatcher.run(job))

    async def outcome(self, name: str, arguments: dict[str, Any] | None = None, **request: Any) -> Outcome:
        job, caller = self.begin(name, arguments, **request)
        return await ended(job, caller)

    async def result(self, name: str, arguments: dict[str, Any] | None = None, **request: Any) -> Any:
        outcome = await self.outcome(name, arguments, **request)
        assert outcome.reason == "succeeded", (outcome.reason, outcome.facts, body_of(outcome))
        return json.loads(body_of(outcome))

    async def until_idle(self, workers: int = WORKERS) -> dict[str, Any]:
        """Waits until every worker is idle and nothing is queued, checks the counters, and returns the statistics."""

        async def idle_stats() -> dict[str, Any] | None:
            stats = self.stats()
            jobs = stats["jobs"]
            assert jobs["submitted"] == sum(count for state, count in jobs.items() if state != "submitted"), jobs
            states = [worker["state"] for worker in stats["workers"]]
            return stats if states == ["idle"] * workers and not jobs["running"] + jobs["queued"] else None

        stats: dict[str, Any] = await eventually("all workers are idle", idle_stats)
        self.service._scheduler.check_invariants()
        return stats


def body_of(outcome: Outcome) -> bytes:
    """Returns the body, and releases a large one."""
    body = cast(bytes | SharedBytes, outcome.body)
    if not isinstance(body, SharedBytes):
        return bytes(body)
    with closing(body):
        return body.read(0, len(body))


async def ended(job: Job, caller: asyncio.Task[None]) -> Outcome:
    async with asyncio.timeout(BOUND_S):
        await caller
    assert job.outcome is not None
    return job.outcome


async def eventually(what: str, condition: Callable[[], Awaitable[Any]]) -> Any:
    end = time.monotonic() + BOUND_S
    while not (value := await condition()):
        assert time.monotonic() < end, f"not within {BOUND_S} s: {what}"
        await asyncio.sleep(0.005)
    return value


@asynccontextmanager
async def opened(row: str, tasks: Path = TASKS, **settings: Any) -> AsyncIterator[Running]:
    """Opens the engine of one of ROWS; its workers are starting."""
    made = ROWS[row]
    if made.needs:
        needed_package(made.needs, f"the engine {row} is NOT tested (pip install '.[dev,dask,ray]')")
    service = Service([tasks], Settings(**{"workers": WORKERS, "quarantine_after": 0, **made.settings, **settings}))
    try:
        await service.open()
        yield Running(service)
    finally:
        await service.close()
        made.end()


class Spinning:
    """A job that burns its core until `finish`."""

    def __init__(self, running: Running, path: Path, task: str = "spin", **request: Any) -> None:
        self._path = path
        self.job, self.caller = running.begin(task, {"path": str(path)}, **request)

    async def pid(self) -> int:
        """Waits until it runs; returns the id of its process."""

        return int(await eventually("it runs", self._written_pid))

    async def has_begun(self) -> bool:
        return await self._written_pid() != ""

    async def _written_pid(self) -> str:
        return self._path.read_text() if self._path.exists() else ""

    def finish(self) -> None:
        self._path.unlink(missing_ok=True)

    async def outcome(self) -> Outcome:
        return await ended(self.job, self.caller)
