"""The reply to a request, as values.

The sender formats it: `server.response_head` as bytes, `server.responses` as a response of aiohttp.
"""

from __future__ import annotations

from collections.abc import Sized
from http import HTTPStatus
from typing import Final, NamedTuple

from aiohttp import hdrs

from offload.web.header_names import CONTENT_TYPE

Headers = tuple[tuple[str, str], ...]

OK: Final = HTTPStatus.OK.value
# The status of nginx for a caller that disconnected. It occurs in logs and counters only.
CLIENT_CLOSED: Final = 499

JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"
JSON_HEADERS: Final[Headers] = ((CONTENT_TYPE, JSON),)
FRESH_JSON_HEADERS: Final[Headers] = (*JSON_HEADERS, (hdrs.CACHE_CONTROL, "no-store"))


class Reply(NamedTuple):
    """Status, headers and body. The headers include the content type; the sender adds the length and its own headers.

    A body of type `SharedBytes` must be released after sending. No header value contains a line break.
    """

    status: int
    headers: Headers
    body: Sized


CLIENT_CLOSED_REPLY: Final = Reply(CLIENT_CLOSED, ((CONTENT_TYPE, BYTES),), b"")
