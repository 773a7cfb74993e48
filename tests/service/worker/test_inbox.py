"""A job either begins in the worker or is withdrawn by the service, never both."""

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
    FrameKind,
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
    """The service's side: sends jobs and withdraws them."""

    def __init__(self, sock: socket.socket, tokens: int) -> None:
        self.sock = sock
        self.tokens = tokens
        self._unread: list[int] = []

    def send(self, *numbers: int) -> None:
        """Send jobs, after reading the worker's answers for all withdrawn jobs."""
        for number in self._unread:
            header = unpack(self.sock.recv(HEADER_BYTES))
            assert (header.kind, header.number) == (FrameKind.SKIPPED, number)
            check_from_worker(header)
        self._unread.clear()
        os.eventfd_write(self.tokens, len(numbers))
        self.sock.sendall(b"".join(frame(one) for one in numbers))

    def withdraw(self, number: int) -> bool:
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
    own_end, worker_end = socket.socketpair()
    tokens = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
    with own_end, worker_end:
        own_end.settimeout(30)
        yield Inbox(Channel(worker_end), tokens, lambda: None), Service(own_end, tokens)
    os.close(tokens)


def number(inbox: Inbox) -> int | None:
    call = inbox.next()
    return None if call is None else call.number


def test_jobs_arrive_unchanged_and_in_order(both: Both) -> None:
    inbox, service = both
    service.send(1, 2)
    service.send(3)
    first = inbox.next()
    assert first == JobCall(1, 3, 2, "0" * 32, JobHead(query="a=1"), b"[]")
    assert [number(inbox), number(inbox)] == [2, 3]
    # A waiting job must not be overwritten by later ones.
    assert first.body == b"[]"


def test_the_newest_job_can_be_withdrawn_until_it_begins(both: Both) -> None:
    inbox, service = both
    service.send(1, 2, 3)
    assert number(inbox) == 1
    assert service.withdraw(3)
    assert number(inbox) == 2
    assert not service.withdraw(2)
    more = threading.Thread(target=service.send, args=(4,))
    more.start()
    assert number(inbox) == 4
    more.join()


def test_a_job_without_its_token_does_not_begin_before_skip_arrives(both: Both) -> None:
    """The service takes the token, the worker asks for its next job, and only then SKIP arrives."""
    inbox, service = both
    service.send(1, 2)
    assert number(inbox) == 1
    os.eventfd_read(service.tokens)

    def send_later() -> None:
        service.sock.sendall(pack_skip(2))
        assert unpack(service.sock.recv(HEADER_BYTES)).kind == FrameKind.SKIPPED
        service.send(3)

    later = threading.Timer(0.02, send_later)
    later.start()
    assert number(inbox) == 3
    later.join()


def test_a_worker_can_retire_after_all_its_jobs_are_withdrawn(both: Both) -> None:
    inbox, service = both
    service.send(1, 2, 3)
    assert [service.withdraw(one) for one in (3, 2, 1)] == [True, True, True]
    service.sock.sendall(pack_retire())
    assert number(inbox) is None


def test_the_inbox_ends_with_the_channel(both: Both) -> None:
    inbox, service = both
    service.send(1)
    service.sock.shutdown(socket.SHUT_WR)
    assert number(inbox) == 1
    assert number(inbox) is None


def test_each_of_many_jobs_begins_or_is_withdrawn_but_not_both(both: Both) -> None:
    """The service withdraws jobs while the worker begins jobs, thousands of times."""
    inbox, service = both
    total = 3_000
    begun: list[int] = []

    def work() -> None:
        while (one := number(inbox)) is not None:
            begun.append(one)

    worker = threading.Thread(target=work)
    worker.start()
    withdrawn = []
    for first in range(1, total, 3):
        service.send(first, first + 1, first + 2)
        withdrawn += [one for one in (first + 2, first + 1) if service.withdraw(one)]
    service.sock.sendall(pack_retire())
    worker.join()
    assert sorted(begun + withdrawn) == list(range(1, total + 1))


def test_without_tokens_every_job_begins() -> None:
    own_end, worker_end = socket.socketpair()
    with own_end, worker_end:
        inbox = Inbox(Channel(worker_end), None, lambda: None)
        own_end.sendall(frame(1) + pack_retire())
        assert [number(inbox), number(inbox)] == [1, None]
