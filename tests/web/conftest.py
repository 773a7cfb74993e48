from __future__ import annotations

import pytest


@pytest.fixture
def unfinished_head() -> bytes:
    """A request whose head announces a body that does not come."""
    return b"POST /jobs/primes HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
