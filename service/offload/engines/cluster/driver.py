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

from offload.engines.cluster.messages import Message, read, write
from offload.engines.cluster.seats import Order, Seats

# What a cluster may take to be left; whoever waits for the driver is less patient and kills it.
_LEAVE_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the driver is there for.  `address`: of the cluster, of which to use `most` places; empty for a local one of
    so many processes.

    `load` is the JSON of `pack_load`.  `trouble` is to be called with a sentence when a worker could not start, or none
    is there.
    """

    address: str
    most: int
    start_timeout_s: float
    load: bytes
    seats: Seats
    trouble: Callable[[str], None]


class Cluster(Protocol):
    """What a cluster can be asked.  All of it is called on the driver's loop.

    `open` reaches the cluster, or raises.  `attend` keeps the seats as the cluster's workers come and go, and returns
    why it was lost, if it ever is.  `start` and `stop` return at once; what comes of them goes to the seats.
    """

    async def open(self) -> None: ...
    async def attend(self) -> str: ...
    def start(self, order: Order) -> None: ...
    def stop(self, slot: int, number: int) -> None: ...
    async def close(self) -> None: ...


class Driver:
    """`kind` is "module:class" of a `Cluster`."""

    def __init__(self, kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        module, _, name = kind.partition(":")
        self._make: Callable[[Task], Cluster] = getattr(import_module(module), name)
        self._reader = reader
        self._writer = writer
        self._cluster: Cluster
        self._is_open = False

    async def run(self) -> None:
        """Returns when the service has gone, or has been told why the cluster has."""
        message = await read(self._reader)
        if message is None:
            return
        _, address, most, start_timeout_s = message.head
        self._seats = Seats(most, self._tell)
        self._cluster = self._make(
            Task(
                address=address,
                most=most,
                start_timeout_s=start_timeout_s,
                load=message.body,
                seats=self._seats,
                trouble=lambda why: self._tell(["trouble", why]),
            )
        )
        living, listening = asyncio.create_task(self._live()), asyncio.create_task(self._listen())
        await asyncio.wait([living, listening], return_when=asyncio.FIRST_COMPLETED)
        if living.done():
            self._tell(["down", living.result()])
        for task in (living, listening):
            task.cancel()
        with suppress(Exception):  # what the library says at the end is of no use to anybody
            await asyncio.wait_for(self._cluster.close(), _LEAVE_S)
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def _live(self) -> str:
        try:
            await self._cluster.open()
            self._tell(["up"])
            self._is_open = True
            return await self._cluster.attend()
        except Exception as error:  # whatever the library raises
            return sentence(error)

    async def _listen(self) -> None:
        while (message := await read(self._reader)) is not None:
            if self._is_open:
                self._obey(message)

    def _obey(self, message: Message) -> None:
        match message.head:
            case ["start", slot, turn, number, task_index, attempt, meta_bytes]:
                if self._seats.take(slot, turn, number):
                    meta, body = message.body[:meta_bytes], message.body[meta_bytes:]
                    self._cluster.start(Order(slot, number, task_index, attempt, meta, body))
            case ["stop", slot, number]:
                if self._seats.has(slot, number):
                    self._cluster.stop(slot, number)

    def _tell(self, head: list[Any], *body: bytes) -> None:
        write(self._writer, head, *body)


def sentence(error: BaseException) -> str:
    """What a library's error is told as."""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


async def _serve(kind: str, sock: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    await Driver(kind, reader, writer).run()


def main() -> None:
    """Called in a new interpreter, with the `kind` and the number of the socket's descriptor as arguments."""
    kind, descriptor = sys.argv[1:]
    asyncio.run(_serve(kind, socket.socket(fileno=int(descriptor))))
    os._exit(0)  # threads of the library's may not end
