"""The Ray engine: runs jobs as tasks of a Ray cluster, one slot for each of its CPUs.

A job is one task that takes one CPU and that Ray never retries. Ray chooses where it runs, so a slot is a CPU of the
cluster, not a certain worker. `ray.cancel` with force kills the process that runs it. Ray does not report whether a job
had begun when its worker was lost, so it counts as begun. A slot that lost its worker is ready again when a small Ray
task has loaded the tasks, so jobs seldom wait for a process to start.

`RayCluster` runs in the driver, see `cluster.driver`: Ray's library ends a process that loses its cluster.

Source: ray 2.9 to 2.60, documentation of `ray.init`, `ray.cancel` and `ray.exceptions`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from functools import partial
from importlib import import_module
from typing import Any, Final, Unpack

from offload.engines.base import Capabilities, EngineParts
from offload.engines.cluster.client import ClusterClient
from offload.engines.cluster.driver import ClusterParts, describe_error
from offload.engines.cluster.engine import ClusterEngine, ClusterKind
from offload.engines.cluster.slots import ClusterJob

CAPABILITIES: Final = Capabilities(stops_running_jobs=True, isolates_deaths=True, ends_with_service=True)

# Ray reads these when it is imported: no usage reports, and output fit for a log. A local cluster gets a token too;
# otherwise Ray would write one for all clusters into the home directory.
_ENVIRONMENT: Final = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_COLOR_PREFIX": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
# How often to ask the cluster for its size.
_POLL_S: Final = 1.0
# Time for the cluster to respond.
_ANSWER_S: Final = 5.0
# A cancel may be lost while Ray hands the task over, so it is repeated until the work has ended.
_CANCEL_AGAIN_S: Final = 0.5
_CAUSES: Final = {
    "LocalRayletDiedError": "Ray's own process on this machine died",
    "NodeDiedError": "its machine was lost",
    "OutOfMemoryError": "its machine was short of memory, and Ray killed it",
    "TaskCancelledError": "its task was cancelled",
    "WorkerCrashedError": "its process died",
}
# Failures before a job has begun.
_UNBEGUN: Final = ("RuntimeEnvSetupError", "TaskUnschedulableError")


def ray_engine(**parts: Unpack[EngineParts]) -> ClusterEngine:
    kind = ClusterKind(name="ray", capabilities=CAPABILITIES, driver=f"{__name__}:RayCluster")
    return ClusterEngine(kind, parts)


class RayCluster(ClusterClient):
    """Implements `driver.Cluster`."""

    def __init__(self, parts: ClusterParts) -> None:
        super().__init__(parts)
        self._refs: dict[int, Any] = {}
        self._own_slots: list[int] = []
        self._size = 0
        self._has_disconnected = asyncio.Event()
        self._why_disconnected = ""
        self._is_empty = False
        self._ray: Any = None

    # Cluster

    async def open(self) -> None:
        own = {} if self._parts.address else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        for name, value in {**_ENVIRONMENT, **own}.items():
            os.environ.setdefault(name, value)
        ray = self._ray = import_module("ray")
        if self._parts.address:
            ray.init(address=self._parts.address, logging_level="warning")
        else:
            ray.init(
                address="local",
                num_cpus=self._parts.max_slots,
                include_dashboard=False,
                logging_level="warning",
                _temp_dir=os.environ.get("TMPDIR"),
            )
        options = ray.remote(num_cpus=1, max_retries=0, retry_exceptions=False)
        self._run_anywhere = options(self._remote.run_anywhere)
        self._remote_load = options(self._remote.load_tasks)
        self._load = ray.put(self._parts.load)

    async def follow(self) -> str:
        while not self._has_disconnected.is_set():
            try:
                async with asyncio.timeout(_ANSWER_S):
                    resources = await asyncio.to_thread(self._ray.cluster_resources)
            except Exception as error:  # the connection may raise anything
                return f"the cluster does not respond: {describe_error(error)}"
            self._resize(min(int(resources.get("CPU", 0)), self._parts.max_slots))
            try:
                async with asyncio.timeout(_POLL_S):
                    await self._has_disconnected.wait()
            except TimeoutError:
                continue
        return self._why_disconnected

    def start_job(self, job: ClusterJob) -> None:
        ref = self._run_anywhere.remote(self._load, *job.call)
        self._refs[job.number] = ref
        self._run_task(self._wait_for_answer(job, ref))

    def stop_job(self, slot: int, number: int) -> None:
        self._run_task(self._cancel(number))

    async def close(self) -> None:
        self._cancel_tasks()
        if self._ray is not None:
            await asyncio.to_thread(self._ray.shutdown)

    # Slots

    def _resize(self, size: int) -> None:
        self._size = size
        while len(self._own_slots) < size and (slot := self._slots.add()) is not None:
            self._own_slots.append(slot)
            self._run_task(self._make_ready(slot))
        for slot in self._own_slots[size:]:
            if self._slots.is_idle(slot):
                self._remove_slot(slot)
        if not size and not self._is_empty:
            self._parts.on_start_failed("the cluster has no CPUs")
        self._is_empty = not size

    def _is_surplus(self, slot: int) -> bool:
        return slot in self._own_slots[self._size :]

    def _remove_slot(self, slot: int) -> None:
        self._own_slots.remove(slot)
        self._slots.remove(slot, "the cluster has become smaller")

    async def _make_ready(self, slot: int) -> None:
        """Load the tasks in a process until that succeeds; then mark the slot as ready."""
        is_wanted = partial(self._own_slots.__contains__, slot)
        if await self._load_until_ready(slot, partial(self._load_tasks, slot), is_wanted=is_wanted):
            self._slots.mark_ready(slot)

    async def _load_tasks(self, slot: int) -> str:
        """Load the tasks once, in any process. Returns the reason of a failure, or ""."""
        ref = self._remote_load.remote("", self._load, slot)
        try:
            async with asyncio.timeout(self._parts.start_timeout_s):
                _, _, why = await asyncio.wrap_future(ref.future())
                return str(why)
        except Exception as error:  # raised in the worker or on the way
            if isinstance(error, TimeoutError):
                self._ray.cancel(ref, force=True)
            self._check_connection(error)
            return self._why_not_loaded(error)

    # Jobs

    async def _wait_for_answer(self, job: ClusterJob, ref: Any) -> None:
        slot, number = job.slot, job.number
        why = ""
        try:
            values = await asyncio.wrap_future(ref.future())
        except Exception as error:  # Ray's errors tell what happened to the worker
            kind = type(error).__name__
            why = _CAUSES.get(kind, f"Ray reported {kind}")
            self._check_connection(error)
            self._slots.mark_lost(slot, why, begun=kind not in _UNBEGUN, detail=describe_error(error))
        else:
            why = self._slots.finish(slot, number, values)
        self._refs.pop(number, None)
        if self._is_surplus(slot):
            self._remove_slot(slot)
        elif why:
            self._run_task(self._make_ready(slot))

    async def _cancel(self, number: int) -> None:
        while (ref := self._refs.get(number)) is not None:
            self._ray.cancel(ref, force=True)
            await asyncio.sleep(_CANCEL_AGAIN_S)

    def _check_connection(self, error: Exception) -> None:
        if isinstance(error, self._ray.exceptions.LocalRayletDiedError):
            self._why_disconnected = describe_error(error)
            self._has_disconnected.set()
