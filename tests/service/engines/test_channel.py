"""The service's end of a worker's channel, over a real socket pair."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Sized
from contextlib import asynccontextmanager, closing

import pytest

from offload.core.job import Job
from offload.core.request import JobHead, TaskLimits
from offload.engines.supervised.channel import Frame, WorkerChannel
from offload.errors import FrameError
from offload.processes.proctree import rss_bytes
from offload.wire.frames import HEADER_BYTES, FrameKind, pack_answer, unpack_meta
from offload.worker import channel as worker_channel
from tests.support.jobs import make_job
from tests.support.shared_memory import made

BOUND_S = 30.0
LIMITS = TaskLimits(name="some", index=3, timeout_s=1.0)
HEAD = JobHead(query="a=1", accept="text/plain")

# Number, meta and body.
Content = tuple[int, bytes, bytes]


class RecordedEvents:
    """Records the events of a channel; implements `ChannelEvents`."""

    def __init__(self) -> None:
        self.contents: list[Content] = []
        self.closed: list[FrameError | None] = []
        self._happened = asyncio.Event()

    def frames(self, frames: list[Frame]) -> None:
        self.contents += [(header.number, meta, bytes(body)) for header, meta, body in frames]
        self._happened.set()

    def channel_closed(self, error: FrameError | None) -> None:
        self.closed.append(error)
        self._happened.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUND_S):
            while not condition():
                self._happened.clear()
                await self._happened.wait()


class Opened:
    def __init__(self, events: RecordedEvents, channel: WorkerChannel, worker: socket.socket) -> None:
        self.events = events
        self.channel = channel
        self.worker = worker

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.worker, data)

    async def frames(self, count: int) -> list[Content]:
        await self.events.until(lambda: len(self.events.contents) >= count)
        return self.events.contents

    async def end(self) -> FrameError | None:
        """Waits for the end of the channel; returns the error with which it ended."""
        await self.events.until(lambda: bool(self.events.closed))
        (error,) = self.events.closed
        return error


@asynccontextmanager
async def opened() -> AsyncIterator[Opened]:
    service_end, worker_end = socket.socketpair()
    service_end.setblocking(False)
    worker_end.setblocking(False)
    events = RecordedEvents()
    channel = WorkerChannel(events)
    await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=service_end)
    try:
        yield Opened(events, channel, worker_end)
    finally:
        worker_end.close()
        channel.close()
        await events.until(lambda: bool(events.closed))


def frame(number: int, meta: bytes, body: bytes) -> bytes:
    return pack_answer(FrameKind.DONE, meta_bytes=len(meta), body_bytes=len(body), number=number) + meta + body


def content(frame: worker_channel.Frame | None) -> bytes:
    assert frame is not None
    return bytes(frame[2])


def job(number: int, body: Sized) -> Job:
    return make_job(number=number, limits=LIMITS, body=body, head=HEAD)


async def test_a_frame_in_two_parts_is_one_frame_wherever_it_is_cut() -> None:
    expected = [(1, b"text/plain", b"body!"), (2, b"", b""), (3, b"m", b"")]
    data = b"".join(frame(*one) for one in expected)
    async with opened() as one:
        for cut in range(1, len(data)):
            one.events.contents.clear()
            await one.send(data[:cut])
            await asyncio.sleep(0)
            await one.send(data[cut:])
            assert await one.frames(3) == expected


async def test_a_frame_that_arrives_byte_by_byte_is_one_frame() -> None:
    data = frame(1, b"meta", b"body") + frame(2, b"", b"x")
    async with opened() as one:
        for byte in data:
            await one.send(bytes([byte]))
            await asyncio.sleep(0)
        assert await one.frames(2) == [(1, b"meta", b"body"), (2, b"", b"x")]


async def test_many_frames_in_one_packet_are_separated() -> None:
    expected = [(number, b"m" * (number % 5), b"b" * (31 * number)) for number in range(1, 60)]
    async with opened() as one:
        await one.send(b"".join(frame(*each) for each in expected))
        assert await one.frames(len(expected)) == expected


@pytest.mark.parametrize("size", [65_536 - HEADER_BYTES - 1, 65_536 - HEADER_BYTES, 65_536, 65_537, 3_000_001])
async def test_large_frames_and_what_follows_arrive_complete(size: int) -> None:
    body = os.urandom(size)
    expected = [(1, b"a/b", body), (2, b"m", b"small"), (3, b"", body), (4, b"", b"")]
    async with opened() as one:
        await one.send(b"".join(frame(*each) for each in expected))
        assert await one.frames(4) == expected


async def test_a_large_meta_arrives_complete() -> None:
    expected = [(1, b"m" * 70_000, b""), (2, b"m" * 70_000, b"b" * 70_000), (3, b"", b"x")]
    async with opened() as one:
        await one.send(b"".join(frame(*each) for each in expected))
        assert await one.frames(3) == expected


async def test_an_announced_body_takes_no_memory_before_it_arrives() -> None:
    """Nor does it take the time to fill that memory."""
    announced = 512 << 20
    before = rss_bytes(os.getpid())
    async with opened() as one:
        await one.send(frame(1, b"", b"whole") + pack_answer(FrameKind.DONE, body_bytes=announced, number=2) + b"begin")
        await one.frames(1)  # cut in the same call as what follows it
        assert len(one.channel.get_buffer(-1)) == announced - len(b"begin")
        assert rss_bytes(os.getpid()) - before < announced / 8


@pytest.mark.parametrize("garbage", [b"\xff" * 100, b"Traceback (most recent call last):\n" * 2, bytes(HEADER_BYTES)])
async def test_an_invalid_frame_ends_the_channel_with_an_error(garbage: bytes) -> None:
    async with opened() as one:
        await one.send(frame(1, b"", b"good") + garbage)
        assert isinstance(await one.end(), FrameError)
        assert one.events.contents == [(1, b"", b"good")]


async def test_fewer_bytes_than_a_header_are_ignored() -> None:
    async with opened() as one:
        await one.send(b"\xff" * (HEADER_BYTES - 1))
        one.worker.close()
        assert await one.end() is None
        assert one.events.contents == []


@pytest.mark.parametrize("cut", [0, 1, HEADER_BYTES, HEADER_BYTES + 3])
@pytest.mark.parametrize("body", [b"body", bytes(200_000)], ids=["small", "large"])
async def test_an_incomplete_frame_is_dropped_at_the_end(body: bytes, cut: int) -> None:
    async with opened() as one:
        await one.send(frame(1, b"", b"whole") + frame(2, b"", body)[:cut])
        one.worker.close()
        assert await one.end() is None
        assert one.events.contents == [(1, b"", b"whole")]


@pytest.mark.parametrize("sizes", [[0], [10, 0, 5], [65_000, 65_536, 1], [1, 500_000, 500_000, 2]])
async def test_jobs_of_any_size_are_sent_in_order(sizes: list[int]) -> None:
    async with opened() as one:
        one.channel.write_jobs([job(number, bytes(size)) for number, size in enumerate(sizes, 1)])
        one.worker.setblocking(True)
        reader = worker_channel.Channel(one.worker)
        for number, size in enumerate(sizes, 1):
            read = await asyncio.to_thread(reader.read)
            assert read is not None
            header, meta, body = read
            assert (header.number, header.tag) == (number, LIMITS.index)
            assert unpack_meta(meta) == (f"{number:032x}", HEAD)
            assert len(body) == size


async def test_without_descriptor_passing_a_large_body_goes_through_the_stream() -> None:
    data = os.urandom(3_000_001)
    with closing(made(data)) as body:
        async with opened() as one:
            one.channel.write_jobs([job(1, b"{}"), job(2, body), job(3, b"[]")])
            one.worker.setblocking(True)
            reader = worker_channel.Channel(one.worker)
            read = [await asyncio.to_thread(reader.read) for _ in range(3)]
            assert [content(frame) for frame in read] == [b"{}", data, b"[]"]


async def test_a_job_whose_body_has_been_released_is_not_sent() -> None:
    """The job ended while it was held back until the worker had read that another one was withdrawn."""
    body = made(bytes(3_000_001))
    body.close()
    async with opened() as one:
        one.channel.write_jobs([job(1, b"{}"), job(2, body), job(3, b"[]")])
        one.worker.setblocking(True)
        reader = worker_channel.Channel(one.worker)
        read = [await asyncio.to_thread(reader.read) for _ in range(2)]
        assert [content(frame) for frame in read] == [b"{}", b"[]"]


async def test_a_write_to_a_dead_worker_is_lost_without_an_error() -> None:
    async with opened() as one:
        one.worker.close()
        await one.end()
        one.channel.write(b"x")
        one.channel.write_jobs([job(1, b"{}"), job(2, bytes(100_000))])
        one.channel.close()
        one.channel.close()
        assert one.events.closed == [None]
