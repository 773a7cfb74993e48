"""Descriptors passed between processes: each has its job's number, and none is left open."""

from __future__ import annotations

import array
import os
import resource
import socket
import struct
from collections.abc import Iterator

import pytest

from offload.errors import FrameError
from offload.wire.passing import make_pair, receive_descriptor, send_descriptor

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = make_pair()
    assert made is not None
    with made[0], made[1]:
        yield made


@pytest.fixture
def null() -> Iterator[int]:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def inode(descriptor: int) -> int:
    return os.fstat(descriptor).st_ino


def raw(sock: socket.socket, data: bytes, *descriptors: int) -> None:
    rights = array.array("i", descriptors)
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else [])


def test_descriptors_arrive_in_order_with_their_numbers(pair: Pair) -> None:
    sender, receiver = pair
    sent = [os.memfd_create(str(number)) for number in range(5)]
    inodes = [inode(descriptor) for descriptor in sent]
    for number, descriptor in enumerate(sent):
        assert send_descriptor(sender, number, descriptor)
        os.close(descriptor)
    for number, expected in enumerate(inodes):
        descriptor = receive_descriptor(receiver, number)
        assert inode(descriptor) == expected
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)


def test_a_missing_descriptor_is_an_error(pair: Pair) -> None:
    with pytest.raises(FrameError):
        receive_descriptor(pair[0], 1)


def test_a_descriptor_of_another_job_is_rejected_and_closed(pair: Pair, null: int) -> None:
    sender, receiver = pair
    send_descriptor(sender, 1, null)
    with pytest.raises(FrameError):
        receive_descriptor(receiver, 2)


@pytest.mark.parametrize("data", [b"", b"x", b"Traceback (most recent call last):", struct.pack("<Q", 1)])
@pytest.mark.parametrize("count", [0, 1, 2, 200])
def test_another_message_is_rejected_and_its_descriptors_closed(pair: Pair, null: int, data: bytes, count: int) -> None:
    sender, receiver = pair
    raw(sender, data or b"\0", *[null] * count)
    if data == struct.pack("<Q", 1) and count:
        os.close(receive_descriptor(receiver, 1))  # the first of several; the kernel closes the others
    else:
        with pytest.raises(FrameError):
            receive_descriptor(receiver, 1)


def test_receiving_after_the_other_side_closed_is_an_error(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(FrameError):
        receive_descriptor(pair[1], 1)


def test_sending_after_the_other_side_closed_returns_false(pair: Pair, null: int) -> None:
    pair[1].close()
    assert not send_descriptor(pair[0], 1, null)


def test_sending_does_not_block_when_the_socket_is_full(pair: Pair, null: int) -> None:
    sender, receiver = pair
    count = 0
    while send_descriptor(sender, count, null):
        count += 1
    assert count >= 8  # the most that a lane may have in flight
    os.close(receive_descriptor(receiver, 0))
    assert send_descriptor(sender, count, null)


def test_a_process_without_free_descriptors_raises_oserror(pair: Pair, null: int) -> None:
    sender, receiver = pair
    send_descriptor(sender, 1, null)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            receive_descriptor(receiver, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
