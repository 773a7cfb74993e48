"""The number of connections is limited by the file descriptors that are left."""

from __future__ import annotations

import asyncio
import errno
import logging

import pytest

from offload.web.server.capacity import Capacity


def test_as_many_connections_as_possible_are_admitted_at_once() -> None:
    capacity = Capacity(most=2, limit=64)
    assert [capacity.add() for _ in range(3)] == [True, True, False]
    capacity.remove()  # the refused one
    assert not capacity.add()
    capacity.remove()
    capacity.remove()
    assert capacity.add()


def test_refused_connections_are_logged_once_in_a_while_with_the_limit_and_the_remedy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    capacity = Capacity(most=1, limit=64)
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            capacity.add()
    (record,) = caplog.records
    assert "raise the limit with `ulimit -n` or LimitNOFILE=" in record.getMessage()
    assert vars(record)["fields"] == {"limit": 64, "connections": 2, "refused": 1}


async def test_a_connection_that_asyncio_cannot_accept_is_reported_as_refused(caplog: pytest.LogCaptureFixture) -> None:
    capacity, loop = Capacity(most=1, limit=64), asyncio.get_running_loop()
    no_descriptor = OSError(errno.EMFILE, "Too many open files")
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            capacity.on_loop_error(
                loop, {"message": "socket.accept() out of system resource", "exception": no_descriptor}
            )
        capacity.on_loop_error(loop, {"message": "a bug"})
    refused, bug = caplog.records
    assert vars(refused)["fields"] == {"limit": 64, "connections": 0, "refused": 1}
    assert (bug.name, bug.getMessage()) == ("asyncio", "a bug")
