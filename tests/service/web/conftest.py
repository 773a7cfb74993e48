from __future__ import annotations

import pytest
import uvloop


@pytest.fixture
def unfinished_head() -> bytes:
    """A request whose head announces a body that does not come."""
    return b"POST /jobs/primes HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"


@pytest.fixture(scope="session", autouse=True)
def uvloop_has_its_pipe() -> None:
    """libuv opens one for signals with a process's first loop, and keeps it: nothing that a test leaves behind."""
    uvloop.new_event_loop().close()
