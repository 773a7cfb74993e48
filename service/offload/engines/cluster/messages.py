"""The messages between the service and its driver.

A message is a JSON array, whose first item is its kind, and opaque bytes. Nothing is pickled.

    offset  size  field
    0       4     length of the array
    4       8     length of the bytes
    12            the array, then the bytes

    to the driver
        open, address, most slots, start timeout in seconds                + the JSON of `pack_load`
        start, slot, generation, number, task index, attempt, job id, head   + the body
        stop, slot, number
    to the service
        connected                               the driver is connected to the cluster
        ready, slot, generation                 the slot has a worker
        finished, slot, number, status, media type, run time in ns, traceback, pid, rss   + body
        invalid-answer, slot, number            the job came back with an invalid answer
        lost, slot, number, begun, why, detail  the slot has no worker; its job `number` (0: none) may have begun
        removed, slot                           the slot has no worker and will not get another
        start-failed, why                       a worker failed to start, or none exists; the driver tries again
        disconnected, why                       the driver lost the cluster or could not reach it, and ends

When one side closes the stream, the other ends.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import orjson

_LENGTHS: Final = struct.Struct("<IQ")
# Larger messages are not copied to save a system call.
_JOINED_BYTES: Final = 64 * 1024


class Message(NamedTuple):
    head: list[Any]
    body: bytes


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """Returns the next message, or None at the end of the stream or after an error."""
    try:
        head_bytes, body_bytes = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
        head = orjson.loads(await reader.readexactly(head_bytes))
        return Message(head, await reader.readexactly(body_bytes))
    except (asyncio.IncompleteReadError, OSError):
        return None


def write_message(writer: asyncio.StreamWriter, head: Sequence[object], *body: bytes | bytearray) -> None:
    """Send a message, at once or when the socket has room."""
    packed = orjson.dumps(head)
    lengths = _LENGTHS.pack(len(packed), sum(map(len, body)))
    if sum(map(len, body)) < _JOINED_BYTES:
        writer.write(b"".join((lengths, packed, *body)))
        return
    writer.write(lengths + packed)
    for part in body:
        writer.write(part)
