"""Who has a job when the worker begins it and the service takes it back at the same moment."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from offload.core.job import JobId
from offload.core.request import JobHead
from offload.wire.frames import (
    HEADER_BYTES,
    Kind,
    check_from_worker,
    pack_job,
    pack_meta,
    pack_retire,
    pack_skip,
    unpack,
)
from offload.worker.call import JobCall
from offload.worker.channel import Channel
from offload.worker.inbox import Inbox

META = pack_meta(JobId("0" * 32), JobHead(query="a=1"))


def frame(number: int) -> bytes:
    return pack_job(number=number, task_index=3, attempt=2, meta_bytes=len(META), body_bytes=2) + META + b"[]"


class Service:
    """The other end: gives jobs and takes them back."""

    def __init__(self, sock: socket.socket, tokens: int) -> None:
        self.sock = sock
        self.tokens = tokens
        self._unread: list[int] = []

    def give(self, *numbers: int) -> None:
        """As soon as the worker has read of all that was taken back."""
        for number in self._unread:
            header = unpack(self.sock.recv(HEADER_BYTES))
            assert (header.kind, header.number) == (Kind.SKIPPED, number)
            check_from_worker(header)
        self._unread.clear()
        os.eventfd_write(self.tokens, len(numbers))
        self.sock.sendall(b"".join(frame(one) for one in numbers))

    def take_back(self, number: int) -> bool:
        try:
            os.eventfd_read(self.tokens)
        except BlockingIOError:
            return False
        self.sock.sendall(pack_skip(number))
        self._unread.append(number)
        return True


Both = tuple[Inbox, Service]


@pytest.fixture
def both() -> Iterator[Both]:
    ours, theirs = socket.socketpair()
    tokens = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
    with ours, theirs:
        ours.settimeout(30)
        yield Inbox(Channel(theirs), tokens), Service(ours, tokens)
    os.close(tokens)


def number(inbox: Inbox) -> int | None:
    call = inbox.next()
    return None if call is None else call.number


def test_jobs_come_in_their_order_and_unchanged(both: Both) -> None:
    inbox, service = both
    service.give(1, 2)
    service.give(3)
    first = inbox.next()
    assert first == JobCall(1, 3, 2, "0" * 32, JobHead(query="a=1"), b"[]")
    assert [number(inbox), number(inbox)] == [2, 3]
    # What waits behind a job must not be overwritten by what comes later.
    assert first.body == b"[]"


def test_the_newest_is_taken_back_as_long_as_it_has_not_begun(both: Both) -> None:
    inbox, service = both
    service.give(1, 2, 3)
    assert number(inbox) == 1
    assert service.take_back(3)
    assert number(inbox) == 2
    assert not service.take_back(2)
    more = threading.Thread(target=service.give, args=(4,))
    more.start()
    assert number(inbox) == 4
    more.join()


def test_a_job_whose_token_is_gone_is_not_begun_even_before_the_word_of_it_comes(both: Both) -> None:
    """Interleaving: the service takes the token, the worker looks for its next job, and only then SKIP arrives."""
    inbox, service = both
    service.give(1, 2)
    assert number(inbox) == 1
    os.eventfd_read(service.tokens)

    def give_later() -> None:
        service.sock.sendall(pack_skip(2))
        assert unpack(service.sock.recv(HEADER_BYTES)).kind == Kind.SKIPPED
        service.give(3)

    later = threading.Timer(0.02, give_later)
    later.start()
    assert number(inbox) == 3
    later.join()


def test_all_that_was_taken_back_leaves_nothing_to_do(both: Both) -> None:
    inbox, service = both
    service.give(1, 2, 3)
    assert [service.take_back(one) for one in (3, 2, 1)] == [True, True, True]
    service.sock.sendall(pack_retire())
    assert number(inbox) is None


def test_the_end_of_the_channel_is_the_end(both: Both) -> None:
    inbox, service = both
    service.give(1)
    service.sock.shutdown(socket.SHUT_WR)
    assert number(inbox) == 1
    assert number(inbox) is None


def test_each_of_many_jobs_is_begun_or_taken_back_and_never_both(both: Both) -> None:
    """The service takes back what it can while the worker begins what it can, thousands of times."""
    inbox, service = both
    total = 3_000
    begun: list[int] = []

    def work() -> None:
        while (one := number(inbox)) is not None:
            begun.append(one)

    worker = threading.Thread(target=work)
    worker.start()
    taken_back = []
    for first in range(1, total, 3):
        service.give(first, first + 1, first + 2)
        taken_back += [one for one in (first + 2, first + 1) if service.take_back(one)]
    service.sock.sendall(pack_retire())
    worker.join()
    assert sorted(begun + taken_back) == list(range(1, total + 1))


def test_without_tokens_each_job_is_the_workers() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        inbox = Inbox(Channel(theirs), None)
        ours.sendall(frame(1) + pack_retire())
        assert [number(inbox), number(inbox)] == [1, None]
