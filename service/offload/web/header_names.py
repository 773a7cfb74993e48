"""Names of the headers that the interface reads and writes, beside those in `aiohttp.hdrs`.

Names of request headers are `istr`, which makes a look-up cheap. Names of response headers are `str`, which is faster
to format.
"""

from __future__ import annotations

from typing import Final

from multidict import istr

PRIORITY: Final = istr("Priority")
REQUEST_ID: Final = istr("X-Request-ID")
REQUEST_TIMEOUT: Final = istr("Request-Timeout")
TRACEPARENT: Final = istr("traceparent")

CONTENT_TYPE: Final = "Content-Type"
JOB_ID: Final = "Job-Id"
RETRY_AFTER: Final = "Retry-After"
SERVER_TIMING: Final = "Server-Timing"

# The value of `Server`. aiohttp's own would name its version and Python's.
SERVER_NAME: Final = "offload"
