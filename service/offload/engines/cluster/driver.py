"""The driver: a process of ours that speaks to a cluster, so that the service need not.

Lives here: what such a process does for any cluster: it listens to the service, passes orders on, and ends when either
side does.  Why a process: the client libraries bring threads that compete with the event loop for its interpreter,
unpickle what workers send, and, in Ray's case, end the process that has lost its cluster.  It leads a session of its
own; whatever a local cluster consists of descends from it.  `link` starts it, by `main`.
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

# What a cluster may take to be left; whoever waits for the driver is less patient and kills it.
_LEAVE_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterParts:
    """What a `Cluster` is made from.

    An empty `address` stands for a local cluster with `max_slots` processes.  `load` is the JSON of `pack_load`.  Call
    `on_start_failed` with the reason when a worker cannot start or the cluster has no workers.
    """

    address: str
    max_slots: int
    start_timeout_s: float
    load: bytes
    slots: ClusterSlots
    on_start_failed: Callable[[str], None]


class Cluster(Protocol):
    """What a cluster can be asked.  All of it is called on the driver's loop.

    `open` reaches the cluster, or raises.  `follow` keeps the slots as the cluster's workers come and go, and returns
    why it was lost, if it ever is.  `start_job` and `stop_job` return at once; what comes of them goes to the slots.
    """

    async def open(self) -> None: ...
    async def follow(self) -> str: ...
    def start_job(self, job: ClusterJob) -> None: ...
    def stop_job(self, slot: int, number: int) -> None: ...
    async def close(self) -> None: ...


class Driver:
    """`kind` is "module:class" of a `Cluster`."""

    def __init__(self, kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        module, _, name = kind.partition(":")
        self._make: Callable[[ClusterParts], Cluster] = getattr(import_module(module), name)
        self._reader = reader
        self._writer = writer
        self._cluster: Cluster
        self._is_connected = False

    async def run(self) -> None:
        """Returns when the service has gone, or has been told why the cluster has."""
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
        with suppress(Exception):  # what the library says at the end is of no use to anybody
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
        except Exception as error:  # whatever the library raises
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
    """What a library's error is told as."""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


async def _run_driver(kind: str, sock: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    await Driver(kind, reader, writer).run()


def main() -> None:
    """Called in a new interpreter, with the `kind` and the number of the socket's descriptor as arguments."""
    kind, descriptor = sys.argv[1:]
    asyncio.run(_run_driver(kind, socket.socket(fileno=int(descriptor))))
    os._exit(0)  # threads of the library's may not end
