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
from offload.wire.frames import HEADER_BYTES, Kind, pack_answer, unpack_meta
from offload.worker import channel as worker_channel
from tests.support.jobs import make_job
from tests.support.shared_memory import made

BOUND_S = 30.0
LIMITS = TaskLimits(name="some", index=3, timeout_s=1.0)
HEAD = JobHead(query="a=1", accept="text/plain")

# Number, meta and body.
Content = tuple[int, bytes, bytes]


class Heard:
    """What the channel told; implements `ChannelEvents`."""

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
    def __init__(self, heard: Heard, channel: WorkerChannel, worker: socket.socket) -> None:
        self.heard = heard
        self.channel = channel
        self.worker = worker

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.worker, data)

    async def frames(self, count: int) -> list[Content]:
        await self.heard.until(lambda: len(self.heard.contents) >= count)
        return self.heard.contents

    async def end(self) -> FrameError | None:
        """Waits for the channel's end: the error with which it ended."""
        await self.heard.until(lambda: bool(self.heard.closed))
        (error,) = self.heard.closed
        return error


@asynccontextmanager
async def opened() -> AsyncIterator[Opened]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    heard = Heard()
    channel = WorkerChannel(heard)
    await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=ours)
    try:
        yield Opened(heard, channel, theirs)
    finally:
        theirs.close()
        channel.close()
        await heard.until(lambda: bool(heard.closed))


def frame(number: int, meta: bytes, body: bytes) -> bytes:
    return pack_answer(Kind.DONE, meta_bytes=len(meta), body_bytes=len(body), number=number) + meta + body


def content(frame: worker_channel.Frame | None) -> bytes:
    assert frame is not None
    return bytes(frame.body)


def job(number: int, body: Sized) -> Job:
    return make_job(number=number, limits=LIMITS, body=body, head=HEAD)


async def test_a_frame_cut_anywhere_is_one_frame() -> None:
    expected = [(1, b"text/plain", b"body!"), (2, b"", b""), (3, b"m", b"")]
    data = b"".join(frame(*one) for one in expected)
    async with opened() as one:
        for cut in range(1, len(data)):
            one.heard.contents.clear()
            await one.send(data[:cut])
            await asyncio.sleep(0)
            await one.send(data[cut:])
            assert await one.frames(3) == expected


async def test_a_frame_that_comes_byte_by_byte_is_one_frame() -> None:
    data = frame(1, b"meta", b"body") + frame(2, b"", b"x")
    async with opened() as one:
        for byte in data:
            await one.send(bytes([byte]))
            await asyncio.sleep(0)
        assert await one.frames(2) == [(1, b"meta", b"body"), (2, b"", b"x")]


async def test_many_frames_in_one_packet_come_one_by_one() -> None:
    expected = [(number, b"m" * (number % 5), b"b" * (31 * number)) for number in range(1, 60)]
    async with opened() as one:
        await one.send(b"".join(frame(*each) for each in expected))
        assert await one.frames(len(expected)) == expected


@pytest.mark.parametrize("size", [65_536 - HEADER_BYTES - 1, 65_536 - HEADER_BYTES, 65_536, 65_537, 3_000_001])
async def test_large_frames_arrive_whole_and_so_does_what_follows(size: int) -> None:
    body = os.urandom(size)
    expected = [(1, b"a/b", body), (2, b"m", b"small"), (3, b"", body), (4, b"", b"")]
    async with opened() as one:
        await one.send(b"".join(frame(*each) for each in expected))
        assert await one.frames(4) == expected


async def test_a_large_meta_arrives_whole_too() -> None:
    expected = [(1, b"m" * 70_000, b""), (2, b"m" * 70_000, b"b" * 70_000), (3, b"", b"x")]
    async with opened() as one:
        await one.send(b"".join(frame(*each) for each in expected))
        assert await one.frames(3) == expected


async def test_a_body_that_is_only_announced_takes_no_memory() -> None:
    """And none of the time that it would take to fill it."""
    announced = 512 << 20
    before = rss_bytes(os.getpid())
    async with opened() as one:
        await one.send(frame(1, b"", b"whole") + pack_answer(Kind.DONE, body_bytes=announced, number=2) + b"begin")
        await one.frames(1)  # which is cut in one turn with what follows it
        assert len(one.channel.get_buffer(-1)) == announced - len(b"begin")
        assert rss_bytes(os.getpid()) - before < announced / 8


@pytest.mark.parametrize("garbage", [b"\xff" * 100, b"Traceback (most recent call last):\n" * 2, bytes(HEADER_BYTES)])
async def test_garbage_ends_the_channel_and_is_named(garbage: bytes) -> None:
    async with opened() as one:
        await one.send(frame(1, b"", b"good") + garbage)
        assert isinstance(await one.end(), FrameError)
        assert one.heard.contents == [(1, b"", b"good")]


async def test_less_than_a_header_of_garbage_is_no_frame() -> None:
    async with opened() as one:
        await one.send(b"\xff" * (HEADER_BYTES - 1))
        one.worker.close()
        assert await one.end() is None
        assert one.heard.contents == []


@pytest.mark.parametrize("cut", [0, 1, HEADER_BYTES, HEADER_BYTES + 3])
@pytest.mark.parametrize("body", [b"body", bytes(200_000)], ids=["small", "large"])
async def test_an_end_inside_of_a_frame_is_an_end_without_that_frame(body: bytes, cut: int) -> None:
    async with opened() as one:
        await one.send(frame(1, b"", b"whole") + frame(2, b"", body)[:cut])
        one.worker.close()
        assert await one.end() is None
        assert one.heard.contents == [(1, b"", b"whole")]


@pytest.mark.parametrize("sizes", [[0], [10, 0, 5], [65_000, 65_536, 1], [1, 500_000, 500_000, 2]])
async def test_jobs_are_sent_in_their_order_whatever_their_size(sizes: list[int]) -> None:
    async with opened() as one:
        one.channel.write_jobs([job(number, bytes(size)) for number, size in enumerate(sizes, 1)])
        one.worker.setblocking(True)
        reader = worker_channel.Channel(one.worker)
        for number, size in enumerate(sizes, 1):
            read = await asyncio.to_thread(reader.read)
            assert read is not None
            assert (read.header.number, read.header.tag) == (number, LIMITS.index)
            assert unpack_meta(read.meta) == (f"{number:032x}", HEAD)
            assert len(read.body) == size


async def test_a_large_body_goes_through_the_stream_where_no_descriptors_can_be_passed() -> None:
    data = os.urandom(3_000_001)
    with closing(made(data)) as body:
        async with opened() as one:
            one.channel.write_jobs([job(1, b"{}"), job(2, body), job(3, b"[]")])
            one.worker.setblocking(True)
            reader = worker_channel.Channel(one.worker)
            read = [await asyncio.to_thread(reader.read) for _ in range(3)]
            assert [content(frame) for frame in read] == [b"{}", data, b"[]"]


async def test_a_job_whose_body_is_given_up_already_is_not_sent() -> None:
    """Interleaving: it was held back until the worker had read of another that was taken back, and ended meanwhile."""
    body = made(bytes(3_000_001))
    body.close()
    async with opened() as one:
        one.channel.write_jobs([job(1, b"{}"), job(2, body), job(3, b"[]")])
        one.worker.setblocking(True)
        reader = worker_channel.Channel(one.worker)
        read = [await asyncio.to_thread(reader.read) for _ in range(2)]
        assert [content(frame) for frame in read] == [b"{}", b"[]"]


async def test_what_is_written_to_a_worker_that_is_gone_is_lost_without_an_error() -> None:
    async with opened() as one:
        one.worker.close()
        await one.end()
        one.channel.write(b"x")
        one.channel.write_jobs([job(1, b"{}"), job(2, bytes(100_000))])
        one.channel.close()
        one.channel.close()
        assert one.heard.closed == [None]
