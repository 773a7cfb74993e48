from __future__ import annotations

import pytest
import uvloop


@pytest.fixture
def unfinished_head() -> bytes:
    """A head that announces a body that does not arrive."""
    return b"POST /jobs/primes HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"


@pytest.fixture(scope="session", autouse=True)
def uvloop_has_its_pipe() -> None:
    """libuv opens a pipe for signals with the first loop of a process and keeps it; it is not a leak of the test."""
    uvloop.new_event_loop().close()
