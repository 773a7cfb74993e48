"""The worker's end of the channel, over a real socket pair."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from offload.wire.frames import HEADER_BYTES, Kind, pack_answer, pack_job, pack_retire, unpack
from offload.worker.channel import Channel

BOUND_S = 30.0

Pair = tuple[Channel, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A channel, and the socket at its other end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(BOUND_S)
        yield Channel(ours), theirs


def job(number: int, meta: bytes, body: bytes) -> bytes:
    header = pack_job(number=number, task_index=0, attempt=1, meta_bytes=len(meta), body_bytes=len(body))
    return header + meta + body


def read(channel: Channel) -> tuple[int, bytes, bytes]:
    frame = channel.read()
    assert frame is not None
    return frame.header.number, bytes(frame.meta), bytes(frame.body)


@pytest.mark.parametrize("cut", range(1, HEADER_BYTES + 9))
def test_a_frame_cut_anywhere_is_one_frame(pair: Pair, cut: int) -> None:
    channel, other = pair
    data = job(1, b"meta", b"body!") + job(2, b"", b"")

    def send() -> None:
        other.sendall(data[:cut])
        other.sendall(data[cut:])

    sender = threading.Thread(target=send)
    sender.start()
    assert [read(channel), read(channel)] == [(1, b"meta", b"body!"), (2, b"", b"")]
    sender.join()


def test_many_frames_in_one_packet_come_one_by_one(pair: Pair) -> None:
    channel, other = pair
    frames = [(number, b"m" * number, b"b" * (97 * number)) for number in range(1, 30)]
    other.sendall(b"".join(job(*frame) for frame in frames))
    assert [read(channel) for _ in frames] == frames


@pytest.mark.parametrize("size", [65_535 - 32, 65_536 - 32, 65_536, 1 << 20, 5_000_001])
def test_large_frames_arrive_whole_and_so_does_what_follows(pair: Pair, size: int) -> None:
    channel, other = pair
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    data = job(1, b"meta", body) + job(2, b"m", b"small") + job(3, b"", body)
    sender = threading.Thread(target=other.sendall, args=(data,))
    sender.start()
    assert read(channel) == (1, b"meta", body)
    assert read(channel) == (2, b"m", b"small")
    assert read(channel) == (3, b"", body)
    sender.join()


def test_the_end_between_two_frames_is_an_end(pair: Pair) -> None:
    channel, other = pair
    other.sendall(job(1, b"", b"x"))
    other.shutdown(socket.SHUT_WR)
    read(channel)
    assert channel.read() is None


@pytest.mark.parametrize("cut", [1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 3])
@pytest.mark.parametrize("body", [b"body", bytes(100_000)], ids=["small", "large"])
def test_the_end_inside_of_a_frame_is_an_error(pair: Pair, cut: int, body: bytes) -> None:
    channel, other = pair
    other.sendall(job(1, b"", body)[:cut])
    other.shutdown(socket.SHUT_WR)
    with pytest.raises(EOFError):
        channel.read()


def test_a_retirement_has_neither_meta_nor_body(pair: Pair) -> None:
    channel, other = pair
    other.sendall(pack_retire())
    frame = channel.read()
    assert frame is not None
    assert (frame.header.kind, len(frame.meta), len(frame.body)) == (Kind.RETIRE, 0, 0)


@pytest.mark.parametrize("size", [0, 10, 65_536, 65_537, 3_000_000])
def test_an_answer_of_any_size_is_sent_whole(pair: Pair, size: int) -> None:
    channel, other = pair
    header = pack_answer(Kind.DONE, meta_bytes=4, body_bytes=size, number=5)
    sender = threading.Thread(target=channel.write, args=(header, b"a/b;", memoryview(bytes(size))))
    sender.start()
    received = bytearray()
    while len(received) < HEADER_BYTES + 4 + size:
        received += other.recv(1 << 20)
    sender.join()
    assert unpack(received).body_bytes == size
    assert received[HEADER_BYTES:] == b"a/b;" + bytes(size)


def test_writing_to_a_service_that_is_gone_is_an_error_of_the_system(pair: Pair) -> None:
    channel, other = pair
    other.close()
    with pytest.raises(OSError):
        channel.write(pack_answer(Kind.READY))
