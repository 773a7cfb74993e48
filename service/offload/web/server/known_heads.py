"""Remembers what the heads of job requests say.

Clients send the same head with each request. The same bytes from the same address mean the same job, so they need not
be parsed again. Heads that only a handler can judge are not remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from aiohttp import hdrs
from aiohttp.http import HttpVersion11, RawRequestMessage

from offload.core.request import JobTerms
from offload.web.answers.problems import Problem
from offload.web.parts import WebParts
from offload.web.requests.judge import judge
from offload.web.server.access_log import LogLine
from offload.web.server.request_ends import content_length

_PREFIX: Final = "/jobs/"
# Bounds the memory to 2 MB. When it is full, all heads are forgotten.
MAX_KNOWN: Final = 1024
_MAX_KNOWN_BYTES: Final = 2048


class RequestHead(NamedTuple):
    """The job that a head asks for, the length of its body in bytes (None if it is chunked), whether the connection
    closes after the answer, and the line for the access log."""

    terms: JobTerms
    body_bytes: int | None
    should_close: bool
    line: LogLine


# The bytes of a head and the caller's address.
HeadKey = tuple[bytes, str | None]


class RequestHeads:
    """The memory of one server. `known` returns what a head says if the caller has sent it before, else None."""

    def __init__(self, parts: WebParts) -> None:
        self._parts = parts
        self._known: dict[HeadKey, RequestHead] = {}
        self.known: Final[Callable[[HeadKey], RequestHead | None]] = self._known.get

    def __len__(self) -> int:
        return len(self._known)

    def read(self, message: RawRequestMessage, address: str | None) -> RequestHead | None:
        """Returns what the head says, or None if a handler must judge it."""
        if message.method != hdrs.METH_POST or not message.path.startswith(_PREFIX):
            return None
        if message.version != HttpVersion11 or message.upgrade or hdrs.EXPECT in message.headers:
            return None
        path = message.path.partition("?")[0]
        name = path[len(_PREFIX) :]
        if "/" in name or "%" in name:
            return None
        body_bytes = None if message.chunked else content_length(message)
        query = message.url.raw_query_string
        try:
            terms = judge(
                self._parts, name, message.headers, query=query, address=address, announced_bytes=body_bytes or 0
            )
        except Problem:
            return None  # the handler finds the same problem and sends it
        line = LogLine.of(
            hdrs.METH_POST, path, request_id=terms.head.request_id, traceparent=terms.head.traceparent, remote=address
        )
        return RequestHead(terms, body_bytes, message.should_close, line)

    def remember(self, head_bytes: bytes, address: str | None, head: RequestHead) -> None:
        """Remember that `head_bytes` mean that head. They must contain nothing else."""
        if head.terms.head.labels() or head.body_bytes is None or len(head_bytes) > _MAX_KNOWN_BYTES:
            return  # a head with ids of its own is not sent again
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[head_bytes, address] = head
