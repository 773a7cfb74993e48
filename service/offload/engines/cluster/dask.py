"""The Dask engine: runs jobs as tasks of a Dask cluster, one slot for each thread of its workers.

Each slot belongs to one worker process, and a job runs only there. Dask would run a task again elsewhere when its
worker dies, even if the job killed the worker, so each job carries the token of its process, and any other process
rejects it. Dask cannot stop a running task. A job that has not begun can be withdrawn; its process decides whether it
has begun (`worker.foreign.cluster.withdraw_pinned`).

`DaskCluster` runs in the driver, see `cluster.driver`.

Source: distributed 2024.8 to 2026.8, documentation of `Client.submit`, `Client.run` and `Scheduler.identity`.
"""

from __future__ import annotations

import asyncio
import math
import os
import secrets
import time
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any, Final, Unpack

from offload.engines.base import Capabilities, EngineParts
from offload.engines.cluster.client import ClusterClient
from offload.engines.cluster.driver import ClusterParts, describe_error
from offload.engines.cluster.engine import ClusterEngine, ClusterKind
from offload.engines.cluster.slots import ClusterJob

# For a cluster at an address.
ADDRESS_CAPABILITIES: Final = Capabilities(starts_before_jobs=True)

# Workers of a local cluster have one thread each, and end with the driver.
CAPABILITIES: Final = replace(ADDRESS_CAPABILITIES, isolates_deaths=True, ends_with_service=True)

# How often to ask the scheduler for its workers. It also publishes changes; polling finds those that were lost.
_POLL_S: Final = 2.0
# Time for the scheduler to respond.
_ANSWER_S: Final = 10.0
# A nanny replaces a dead worker within this time.
_SUCCESSOR_S: Final = 10.0
_TOPIC: Final = "all"
_MEMBERSHIP_EVENTS: Final = frozenset({"add-worker", "remove-worker", "worker-status-change"})


def dask_engine(**parts: Unpack[EngineParts]) -> ClusterEngine:
    capabilities = ADDRESS_CAPABILITIES if parts["settings"].engine_address else CAPABILITIES
    kind = ClusterKind(name="dask", capabilities=capabilities, driver=f"{__name__}:DaskCluster")
    return ClusterEngine(kind, parts)


class _Worker:
    """A Dask worker process. `token` is empty until it has loaded the tasks."""

    def __init__(self, address: str, slots: list[int]) -> None:
        self.address = address
        self.slots = slots
        self.token = ""
        self.loading: asyncio.Task[None] | None = None


class DaskCluster(ClusterClient):
    """Implements `driver.Cluster`."""

    def __init__(self, parts: ClusterParts) -> None:
        super().__init__(parts)
        self._name = secrets.token_hex(8)  # distinguishes these tasks and jobs from those of other services
        self._workers: dict[str, _Worker] = {}
        self._worker_of: dict[int, _Worker] = {}
        self._futures: dict[int, Any] = {}
        self._has_changed = asyncio.Event()
        self._empty_since: float | None = None
        self._local: Any = None
        self._client: Any = None

    # Cluster

    async def open(self) -> None:
        _configure()
        distributed = import_module("distributed")
        target: Any = self._parts.address
        if not target:
            target = self._local = await distributed.LocalCluster(
                n_workers=self._parts.max_slots,
                threads_per_worker=1,
                processes=True,
                memory_limit=0,
                dashboard_address=None,
                worker_dashboard_address=None,
                local_directory=os.environ.get("TMPDIR"),
                asynchronous=True,
            )
        self._client = await distributed.Client(
            target,
            asynchronous=True,
            timeout=self._parts.start_timeout_s,
            # Workers of another cluster may be reachable only through its scheduler.
            direct_to_workers=self._local is not None or None,
        )
        self._client.subscribe_topic(_TOPIC, self._on_event)

    async def follow(self) -> str:
        while True:
            try:
                async with asyncio.timeout(_ANSWER_S):
                    identity = await self._client.scheduler.identity(n_workers=-1)
            except Exception as error:  # the connection may raise anything
                return f"the scheduler does not respond: {describe_error(error)}"
            self._update_workers(identity["workers"])
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._has_changed.wait()
            self._has_changed.clear()
            if self._client.status != "running":
                return "the connection to the scheduler was lost"

    def start_job(self, job: ClusterJob) -> None:
        worker = self._worker_of[job.slot]
        name = f"{self._name}-{job.number}-{job.attempt}-{secrets.token_hex(4)}"
        future = self._submit(worker, name, self._remote.run_pinned, worker.token, self._name, name, *job.call)
        self._futures[job.number] = future
        self._run_task(self._wait_for_answer(job, worker, future))

    def stop_job(self, slot: int, number: int) -> None:
        self._run_task(self._withdraw(self._worker_of[slot], slot, number))

    async def close(self) -> None:
        self._cancel_tasks()
        if self._client is not None:
            self._client.unsubscribe_topic(_TOPIC)
            await self._client.close()
        if self._local is not None:
            await self._local.close()

    # Workers

    def _on_event(self, event: tuple[float, Any]) -> None:
        message = event[1]
        if isinstance(message, dict) and message.get("action") in _MEMBERSHIP_EVENTS:
            self._has_changed.set()

    def _update_workers(self, found: dict[str, Any]) -> None:
        able = {address: about["nthreads"] for address, about in found.items() if about.get("status") == "running"}
        for address in [address for address in self._workers if address not in found]:
            self._remove_worker(self._workers[address], "its worker left the cluster")
        for address in [address for address in self._workers if address not in able]:
            self._remove_idle_slots(self._workers[address])
        for address, threads in able.items():
            if address not in self._workers:
                self._add_worker(address, threads)
        self._report_empty(not found)

    def _report_empty(self, is_empty: bool) -> None:
        if not is_empty:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = time.monotonic()
        elif time.monotonic() - self._empty_since > _SUCCESSOR_S:
            self._empty_since = math.inf  # report it once
            self._parts.on_start_failed("the cluster has no workers")

    def _add_worker(self, address: str, threads: int) -> None:
        slots = [slot for _ in range(threads) if (slot := self._slots.add()) is not None]
        if slots:
            worker = self._workers[address] = _Worker(address, slots)
            self._worker_of.update(dict.fromkeys(slots, worker))
            worker.loading = self._run_task(self._make_ready(worker))

    def _remove_idle_slots(self, worker: _Worker) -> None:
        """Remove the idle slots of a worker that is paused or about to leave; its running jobs go on."""
        for slot in [slot for slot in worker.slots if self._slots.is_idle(slot)]:
            worker.slots.remove(slot)
            self._remove_slot(slot, "its worker accepts no more jobs")
        if not worker.slots:
            self._remove_worker(worker, "")

    def _remove_worker(self, worker: _Worker, why: str) -> None:
        """Remove a worker with its slots; its jobs may have begun."""
        self._workers.pop(worker.address, None)
        if worker.loading is not None:
            worker.loading.cancel()
        for slot in worker.slots:
            self._remove_slot(slot, why)

    def _remove_slot(self, slot: int, why: str) -> None:
        del self._worker_of[slot]
        self._slots.remove(slot, why)

    async def _make_ready(self, worker: _Worker) -> None:
        """Load the tasks in the worker until that succeeds; then mark its slots as ready."""
        await self._load_until_ready(worker.slots[0], partial(self._load, worker))
        for slot in worker.slots:
            self._slots.mark_ready(slot)

    async def _load(self, worker: _Worker) -> str:
        """Load the tasks once. Returns the reason of a failure, or ""."""
        name = f"{self._name}-load-{secrets.token_hex(4)}"
        future = self._submit(worker, name, self._remote.load_tasks, self._name, self._parts.load, worker.slots[0])
        try:
            async with asyncio.timeout(self._parts.start_timeout_s):
                worker.token, _, why = await future
                return str(why)
        except Exception as error:  # raised in the worker or on the way
            return self._why_not_loaded(error)
        finally:
            future.release()

    # Jobs

    def _submit(self, worker: _Worker, name: str, function: Any, *arguments: object) -> Any:
        return self._client.submit(
            function, *arguments, key=name, workers=[worker.address], allow_other_workers=False, pure=False, retries=0
        )

    async def _wait_for_answer(self, job: ClusterJob, worker: _Worker, future: Any) -> None:
        slot, number = job.slot, job.number
        try:
            values = await future
        except CancelledError as error:  # by _withdraw, which reports it; or the connection was lost
            if self._futures.get(number) is future:
                self._slots.mark_lost(slot, "its task was cancelled", detail=describe_error(error))
                self._has_changed.set()
            return
        except Exception as error:  # above all KilledWorker, if the scheduler allows no failures
            self._slots.mark_lost(slot, f"Dask reported {type(error).__name__}", detail=describe_error(error))
            self._has_changed.set()
            return
        finally:
            self._futures.pop(number, None)
        if values is None:
            self._slots.mark_lost(slot, "another process replaced it", begun=False)
            self._remove_worker(worker, "another process replaced it")
            self._has_changed.set()
        else:
            self._slots.finish(slot, number, values)

    async def _withdraw(self, worker: _Worker, slot: int, number: int) -> None:
        future = self._futures.get(number)
        if future is None:
            return
        with suppress(Exception):  # if the worker has left, `follow` notices it
            answers = await self._client.run(
                self._remote.withdraw_pinned, worker.token, future.key, workers=[worker.address]
            )
            if answers.get(worker.address) is True and self._futures.pop(number, None) is not None:
                await future.cancel()
                if self._slots.has_job(slot, number):
                    self._slots.mark_lost(slot, "it was withdrawn", begun=False)
                    self._slots.mark_ready(slot)


def _configure() -> None:
    dask: Any = import_module("dask")
    dask.config.set(
        {
            # Large bodies are expected.
            "distributed.admin.large-graph-warning-threshold": "1TB",
            # A local cluster checks this long after a death whether a successor exists. If that has just died too, the
            # cluster never starts another.
            "distributed.deploy.lost-worker-timeout": "1000 days",
        }
    )
