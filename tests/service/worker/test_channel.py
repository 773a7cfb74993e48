"""The worker's side of the channel, on a real socket pair."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from offload.wire.frames import HEADER_BYTES, FrameKind, pack_answer, pack_job, pack_retire, unpack
from offload.worker.channel import Channel

BOUND_S = 30.0

Pair = tuple[Channel, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Yields a channel and the socket on the other side."""
    own_end, other_end = socket.socketpair()
    with own_end, other_end:
        other_end.settimeout(BOUND_S)
        yield Channel(own_end), other_end


def job(number: int, meta: bytes, body: bytes) -> bytes:
    header = pack_job(number=number, task_index=0, attempt=1, meta_bytes=len(meta), body_bytes=len(body))
    return header + meta + body


def read(channel: Channel) -> tuple[int, bytes, bytes]:
    frame = channel.read()
    assert frame is not None
    header, meta, body = frame
    return header.number, meta, bytes(body)


@pytest.mark.parametrize("cut", range(1, HEADER_BYTES + 9))
def test_a_frame_that_arrives_in_two_parts_is_one_frame(pair: Pair, cut: int) -> None:
    channel, other = pair
    data = job(1, b"meta", b"body!") + job(2, b"", b"")

    def send() -> None:
        other.sendall(data[:cut])
        other.sendall(data[cut:])

    sender = threading.Thread(target=send)
    sender.start()
    assert [read(channel), read(channel)] == [(1, b"meta", b"body!"), (2, b"", b"")]
    sender.join()


def test_frames_that_arrive_together_are_read_one_by_one(pair: Pair) -> None:
    channel, other = pair
    frames = [(number, b"m" * number, b"b" * (97 * number)) for number in range(1, 30)]
    other.sendall(b"".join(job(*frame) for frame in frames))
    assert [read(channel) for _ in frames] == frames


@pytest.mark.parametrize("size", [65_535 - 32, 65_536 - 32, 65_536, 1 << 20, 5_000_001])
def test_large_frames_and_the_frames_after_them_arrive_complete(pair: Pair, size: int) -> None:
    channel, other = pair
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    data = job(1, b"meta", body) + job(2, b"m", b"small") + job(3, b"", body)
    sender = threading.Thread(target=other.sendall, args=(data,))
    sender.start()
    assert read(channel) == (1, b"meta", body)
    assert read(channel) == (2, b"m", b"small")
    assert read(channel) == (3, b"", body)
    sender.join()


def test_the_end_of_the_stream_between_frames_is_not_an_error(pair: Pair) -> None:
    channel, other = pair
    other.sendall(job(1, b"", b"x"))
    other.shutdown(socket.SHUT_WR)
    read(channel)
    assert channel.read() is None


@pytest.mark.parametrize("cut", [1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 3])
@pytest.mark.parametrize("body", [b"body", bytes(100_000)], ids=["small", "large"])
def test_the_end_of_the_stream_inside_a_frame_is_an_error(pair: Pair, cut: int, body: bytes) -> None:
    channel, other = pair
    other.sendall(job(1, b"", body)[:cut])
    other.shutdown(socket.SHUT_WR)
    with pytest.raises(EOFError):
        channel.read()


def test_a_retire_frame_has_neither_meta_nor_body(pair: Pair) -> None:
    channel, other = pair
    other.sendall(pack_retire())
    frame = channel.read()
    assert frame is not None
    header, meta, body = frame
    assert (header.kind, len(meta), len(body)) == (FrameKind.RETIRE, 0, 0)


@pytest.mark.parametrize("size", [0, 10, 65_536, 65_537, 3_000_000])
def test_an_answer_of_any_size_is_sent_completely(pair: Pair, size: int) -> None:
    channel, other = pair
    header = pack_answer(FrameKind.DONE, meta_bytes=4, body_bytes=size, number=5)
    sender = threading.Thread(target=channel.write, args=(header, b"a/b;", memoryview(bytes(size))))
    sender.start()
    received = bytearray()
    while len(received) < HEADER_BYTES + 4 + size:
        received += other.recv(1 << 20)
    sender.join()
    assert unpack(received).body_bytes == size
    assert received[HEADER_BYTES:] == b"a/b;" + bytes(size)


def test_writing_after_the_service_has_ended_raises_oserror(pair: Pair) -> None:
    channel, other = pair
    other.close()
    with pytest.raises(OSError):
        channel.write(pack_answer(FrameKind.READY))
