"""Finds where one request ends and the next begins in the bytes of a connection.

aiohttp's parser does not say whether it holds part of a request, so the bytes that it is fed are counted beside it.
Once the count is lost it stays lost: a caller can make any later bytes look like the beginning of a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import StreamReader, hdrs
from aiohttp.http import RawRequestMessage

END_OF_HEAD: Final = b"\r\n\r\n"


class RequestEnds:
    """`missing_bytes` is how much of the last request has not arrived. At 0, a new request begins next.

    None means unknown: after a chunked body, after requests that arrived together, or after a head in pieces.
    """

    __slots__ = ("missing_bytes",)

    def __init__(self) -> None:
        self.missing_bytes: int | None = 0

    def count(self, data: bytes, begun: Sequence[tuple[object, StreamReader]]) -> None:
        """Count `data`, in which the parser has found the beginnings of the requests `begun`."""
        if self.missing_bytes == 0 and len(begun) == 1:
            self.missing_bytes = _missing_bytes(data, *begun[0])
        elif self.missing_bytes is None or begun or len(data) > self.missing_bytes:
            self.missing_bytes = None
        else:
            self.missing_bytes -= len(data)


def content_length(message: RawRequestMessage) -> int:
    """Returns the length in bytes of a body that is not chunked."""
    return int(message.headers.get(hdrs.CONTENT_LENGTH, "0"))


def _missing_bytes(data: bytes, message: object, body: StreamReader) -> int | None:
    """Returns what is missing of the request that `data` begins with, or None if more than that request is in it.

    If `data` holds only that request, then what follows the first end of a head is exactly what the body has received.
    """
    if not isinstance(message, RawRequestMessage) or message.chunked or message.upgrade:
        return None
    end_of_head = data.find(END_OF_HEAD)
    if end_of_head < 0 or end_of_head + len(END_OF_HEAD) + body.total_bytes != len(data):
        return None
    return content_length(message) - body.total_bytes
