"""A cluster that does what each job's body says, in the driver itself: neither Dask nor Ray is needed."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import orjson

from offload.engines.cluster.driver import Task
from offload.engines.cluster.seats import Order


class FakeCluster:
    """Implements `driver.Cluster`.  Its address is what `open` does."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._seats = task.seats
        self._why = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        if self._task.address == "refuses":
            raise OSError("nobody answers")
        if self._task.address == "empty":
            self._task.trouble("there are no workers")
            return
        print(f"load {len(self._task.load)}", flush=True)
        for _ in range(self._task.most):
            slot = self._seats.add()
            assert slot is not None
            self._seats.ready(slot)

    async def attend(self) -> str:
        why: str = await self._why
        return why

    def start(self, order: Order) -> None:
        what = orjson.loads(order.body)[0] if order.body.startswith(b"[") else "answer"
        match what:
            case "answer":
                answer = (order.number, 0, "application/json", order.body, 10**9, "", os.getpid(), 4096)
                self._seats.answer(order.slot, order.number, answer)
            case "garbage":
                self._seats.answer(order.slot, order.number, (order.number, "what?"))
            case "cannot load":
                answer = (order.number, -1, "", b"no such module", 0, "", os.getpid(), 0)
                self._seats.answer(order.slot, order.number, answer)
            case "lose another":
                self._seats.remove(order.slot + 1, "it left", begun=True)
            case "down":
                self._why.set_result("it went away")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(1000)

    def stop(self, slot: int, number: int) -> None:
        self._seats.lose(slot, "it was stopped")
        self._seats.ready(slot)

    async def close(self) -> None:
        return
