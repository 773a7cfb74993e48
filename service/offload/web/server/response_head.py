"""The head of a response in bytes, where no response of aiohttp's is made.

Lives here: status line and headers of a reply in HTTP/1.1 (RFC 9112), the same ones that aiohttp would send.  `direct`
is the only caller.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from offload.web.answers.reply import Reply
from offload.web.header_names import REQUEST_ID, SERVER_NAME

_STATUS_LINES: Final[Mapping[int, str]] = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus
}


class HeadWriter:
    """Makes heads of HTTP/1.1 responses; what many have in common is made once a second, with the date."""

    def __init__(self) -> None:
        self._ending = ""
        self._second = -1

    def head(self, reply: Reply, *, request_id: str, is_last: bool) -> bytes:
        """The bytes before the body.  `request_id` is echoed; `is_last`: the connection ends with this answer."""
        now = int(time.time())
        if now != self._second:  # the clock may have been set back
            self._second = now
            self._ending = f"Date: {formatdate(now, usegmt=True)}\r\nServer: {SERVER_NAME}\r\n\r\n"
        status, headers, body = reply
        head = _STATUS_LINES[status]
        for name, value in headers:
            head += f"{name}: {value}\r\n"
        if request_id:
            head += f"{REQUEST_ID}: {request_id}\r\n"
        if is_last:
            head += "Connection: close\r\n"
        return f"{head}Content-Length: {len(body)}\r\n{self._ending}".encode("latin-1")
