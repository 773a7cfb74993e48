"""A cluster inside the driver that does what each job's body says, without Dask or Ray."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import orjson

from offload.engines.cluster.driver import ClusterParts
from offload.engines.cluster.slots import ClusterJob


class FakeCluster:
    """Implements `driver.Cluster`. The address selects what `open` does."""

    def __init__(self, parts: ClusterParts) -> None:
        self._parts = parts
        self._slots = parts.slots
        self._why = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        if self._parts.address == "unreachable":
            raise OSError("no response")
        if self._parts.address == "empty":
            self._parts.on_start_failed("the cluster has no workers")
            return
        print(f"load {len(self._parts.load)}", flush=True)
        for _ in range(self._parts.max_slots):
            slot = self._slots.add()
            assert slot is not None
            self._slots.mark_ready(slot)

    async def follow(self) -> str:
        why: str = await self._why
        return why

    def start_job(self, job: ClusterJob) -> None:
        what = orjson.loads(job.body)[0] if job.body.startswith(b"[") else "answer"
        match what:
            case "answer":
                answer = (job.number, 0, "application/json", job.body, 10**9, "", os.getpid(), 4096, False)
                self._slots.finish(job.slot, job.number, answer)
            case "garbage":
                self._slots.finish(job.slot, job.number, (job.number, "what?"))
            case "cannot load":
                answer = (job.number, -1, "", b"no such module", 0, "", os.getpid(), 0, False)
                self._slots.finish(job.slot, job.number, answer)
            case "lose another":
                self._slots.remove(job.slot + 1, "it left", begun=True)
            case "down":
                self._why.set_result("it went away")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(1000)

    def stop_job(self, slot: int, number: int) -> None:
        self._slots.mark_lost(slot, "it was stopped")
        self._slots.mark_ready(slot)

    async def close(self) -> None:
        return
