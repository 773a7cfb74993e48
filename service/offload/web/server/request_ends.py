"""Where one request ends, and the next begins, in what a connection brings.

Lives here: counting the bytes that aiohttp's parser is fed beside the requests that it finds in them; the parser itself
does not say whether it has something of a request left.  Where the count is lost it stays lost: no later bytes can
prove where a request begins, for whoever sends them can have them look like anything.  `direct` asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import StreamReader, hdrs
from aiohttp.http import RawRequestMessage

END_OF_HEAD: Final = b"\r\n\r\n"


class RequestEnds:
    """`missing_bytes` are those of the last request that are still to come.  With 0, what comes next is a new one; with
    None nobody knows any more, as after a body in chunks, requests that came together, or a head that came in parts."""

    __slots__ = ("missing_bytes",)

    def __init__(self) -> None:
        self.missing_bytes: int | None = 0

    def count(self, data: bytes, begun: Sequence[tuple[object, StreamReader]]) -> None:
        """The parser was fed this, and found that these requests begin in it."""
        if self.missing_bytes == 0 and len(begun) == 1:
            self.missing_bytes = _missing_bytes(data, *begun[0])
        elif self.missing_bytes is None or begun or len(data) > self.missing_bytes:
            self.missing_bytes = None
        else:
            self.missing_bytes -= len(data)


def content_length(message: RawRequestMessage) -> int:
    """The body's length in bytes, of a message that does not come in chunks."""
    return int(message.headers.get(hdrs.CONTENT_LENGTH, "0"))


def _missing_bytes(data: bytes, message: object, body: StreamReader) -> int | None:
    """Of the request that the data begins with, if nothing comes behind it: then what follows the first end of a head
    is just what its body has."""
    if not isinstance(message, RawRequestMessage) or message.chunked or message.upgrade:
        return None
    end_of_head = data.find(END_OF_HEAD)
    if end_of_head < 0 or end_of_head + len(END_OF_HEAD) + body.total_bytes != len(data):
        return None
    return content_length(message) - body.total_bytes
