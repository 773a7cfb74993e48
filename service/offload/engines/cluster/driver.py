"""The driver: a process that connects to a cluster on behalf of the service.

It receives messages from the service, passes jobs to the cluster, and ends when either side ends. It is a separate
process because the client libraries start threads that compete with the event loop for the interpreter, unpickle what
workers send, and, in Ray's case, end the process when the cluster is lost. The driver leads its own session, and the
processes of a local cluster descend from it. `driver_process` starts it through `main`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, Protocol

from offload.engines.cluster.messages import Message, read_message, write_message
from offload.engines.cluster.slots import ClusterJob, ClusterSlots

# Time to disconnect from the cluster. The service waits less and then kills the driver.
_LEAVE_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterParts:
    """The parts of a `Cluster`.

    An empty `address` means a local cluster with `max_slots` processes. `load` is the JSON of `pack_load`. Call
    `on_start_failed` with the reason when a worker cannot start or the cluster has no workers.
    """

    address: str
    max_slots: int
    start_timeout_s: float
    load: bytes
    slots: ClusterSlots
    on_start_failed: Callable[[str], None]


class Cluster(Protocol):
    """A cluster as the driver uses it; called on the driver's event loop.

    `open` connects or raises. `follow` updates the slots as the cluster's workers come and go, until the cluster is
    lost, and returns the reason. `start_job` and `stop_job` return at once; the slots get the outcome.
    """

    async def open(self) -> None: ...
    async def follow(self) -> str: ...
    def start_job(self, job: ClusterJob) -> None: ...
    def stop_job(self, slot: int, number: int) -> None: ...
    async def close(self) -> None: ...


class Driver:
    """`kind` is "module:class" of a class that implements `Cluster`."""

    def __init__(self, kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        module, _, name = kind.partition(":")
        self._make: Callable[[ClusterParts], Cluster] = getattr(import_module(module), name)
        self._reader = reader
        self._writer = writer
        self._cluster: Cluster
        self._is_connected = False

    async def run(self) -> None:
        """Run until the service closes its end, or the cluster is lost and the service has the reason."""
        message = await read_message(self._reader)
        if message is None:
            return
        _, address, max_slots, start_timeout_s = message.head
        self._slots = ClusterSlots(max_slots, self._send)
        self._cluster = self._make(
            ClusterParts(
                address=address,
                max_slots=max_slots,
                start_timeout_s=start_timeout_s,
                load=message.body,
                slots=self._slots,
                on_start_failed=lambda why: self._send(["start-failed", why]),
            )
        )
        running, reading = asyncio.create_task(self._run_cluster()), asyncio.create_task(self._read_messages())
        await asyncio.wait([running, reading], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            self._send(["disconnected", running.result()])
        for task in (running, reading):
            task.cancel()
        with suppress(Exception):  # errors of the library while it disconnects do not matter
            await asyncio.wait_for(self._cluster.close(), _LEAVE_S)
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def _run_cluster(self) -> str:
        try:
            await self._cluster.open()
            self._send(["connected"])
            self._is_connected = True
            return await self._cluster.follow()
        except Exception as error:  # the library may raise anything
            return describe_error(error)

    async def _read_messages(self) -> None:
        while (message := await read_message(self._reader)) is not None:
            if self._is_connected:
                self._on_message(message)

    def _on_message(self, message: Message) -> None:
        match message.head:
            case ["start", slot, generation, number, task_index, attempt, job_id, head]:
                if self._slots.accept(slot, generation, number):
                    job = ClusterJob(slot, number, task_index, attempt, job_id, head, message.body)
                    self._cluster.start_job(job)
            case ["stop", slot, number]:
                if self._slots.has_job(slot, number):
                    self._cluster.stop_job(slot, number)

    def _send(self, head: list[Any], *body: bytes) -> None:
        write_message(self._writer, head, *body)


def describe_error(error: BaseException) -> str:
    """Returns the error of a library in one line of at most 300 characters."""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


async def _run_driver(kind: str, sock: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    await Driver(kind, reader, writer).run()


def main() -> None:
    """Run the driver in a new interpreter; the arguments are the `kind` and the socket's descriptor."""
    kind, descriptor = sys.argv[1:]
    asyncio.run(_run_driver(kind, socket.socket(fileno=int(descriptor))))
    os._exit(0)  # the library's threads may never end
