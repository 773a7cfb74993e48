"""The messages between the service and its driver."""

from __future__ import annotations

import asyncio
import socket

import pytest

from offload.engines.cluster.messages import Message, read_message, write_message


@pytest.mark.parametrize("body", [b"", b"x", bytes(70_000), bytes(5_000_000)], ids=len)
async def test_messages_arrive_complete_and_in_order(body: bytes) -> None:
    near_end, far_end = socket.socketpair()
    _, writer = await asyncio.open_unix_connection(sock=near_end)
    reader, far_writer = await asyncio.open_unix_connection(sock=far_end)
    write_message(writer, ["first", 1, None, "ö"], b"meta", body)
    write_message(writer, ["second"])
    assert await read_message(reader) == Message(["first", 1, None, "ö"], b"meta" + body)
    assert await read_message(reader) == Message(["second"], b"")
    for end in (writer, far_writer):
        end.close()
        await end.wait_closed()


async def test_a_stream_that_ends_inside_a_message_ends() -> None:
    near_end, far_end = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=far_end)
    with near_end:
        near_end.sendall(b"\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00[")
    assert await read_message(reader) is None
    writer.close()
    await writer.wait_closed()
