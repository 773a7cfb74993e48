"""Descriptors between two processes: each comes with its job's number, and none is left open."""

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


def test_each_comes_with_its_number_in_their_order(pair: Pair) -> None:
    ours, theirs = pair
    sent = [os.memfd_create(str(number)) for number in range(5)]
    inodes = [inode(descriptor) for descriptor in sent]
    for number, descriptor in enumerate(sent):
        assert send_descriptor(ours, number, descriptor)
        os.close(descriptor)
    for number, expected in enumerate(inodes):
        descriptor = receive_descriptor(theirs, number)
        assert inode(descriptor) == expected
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)


def test_one_that_was_announced_and_not_sent_is_garbage(pair: Pair) -> None:
    with pytest.raises(FrameError):
        receive_descriptor(pair[0], 1)


def test_one_of_another_job_is_garbage_and_closed(pair: Pair, null: int) -> None:
    ours, theirs = pair
    send_descriptor(ours, 1, null)
    with pytest.raises(FrameError):
        receive_descriptor(theirs, 2)


@pytest.mark.parametrize("data", [b"", b"x", b"Traceback (most recent call last):", struct.pack("<Q", 1)])
@pytest.mark.parametrize("count", [0, 1, 2, 200])
def test_whatever_else_is_sent_is_garbage_and_closed(pair: Pair, null: int, data: bytes, count: int) -> None:
    ours, theirs = pair
    raw(ours, data or b"\0", *[null] * count)
    if data == struct.pack("<Q", 1) and count:
        os.close(receive_descriptor(theirs, 1))  # of several the first; the kernel closes the others
    else:
        with pytest.raises(FrameError):
            receive_descriptor(theirs, 1)


def test_the_end_of_the_other_side_is_garbage_too(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(FrameError):
        receive_descriptor(pair[1], 1)


def test_to_one_that_is_gone_nothing_is_sent(pair: Pair, null: int) -> None:
    pair[1].close()
    assert not send_descriptor(pair[0], 1, null)


def test_what_cannot_be_sent_now_is_not_waited_for(pair: Pair, null: int) -> None:
    ours, theirs = pair
    count = 0
    while send_descriptor(ours, count, null):
        count += 1
    assert count >= 8  # as many as a lane may have in flight
    os.close(receive_descriptor(theirs, 0))
    assert send_descriptor(ours, count, null)


def test_one_for_which_there_is_no_room_in_this_process_is_told_apart(pair: Pair, null: int) -> None:
    ours, theirs = pair
    send_descriptor(ours, 1, null)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            receive_descriptor(theirs, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
