"""Formats the head of an HTTP/1.1 response (RFC 9112), with the same headers that aiohttp would send."""

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
    """Formats heads. Their common end is formatted once a second, with the date."""

    def __init__(self) -> None:
        self._ending = ""
        self._second = -1

    def head(self, reply: Reply, *, request_id: str, is_last: bool) -> bytes:
        """Returns the bytes before the body. Echoes `request_id`; `is_last` announces the end of the connection."""
        now = int(time.time())
        if now != self._second:  # not `>`: the clock may be set back
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
