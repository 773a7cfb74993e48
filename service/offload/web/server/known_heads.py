"""What the heads of requests for jobs say, as long as they say what they said before.

Lives here: from a head as aiohttp has parsed it to the job that is asked for, and the memory of that.  Clients send the
same head with each of their requests: byte for byte the same, from the same address, it means the same, and need not be
parsed again.  `direct` asks; whatever a handler has to look at is none of this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from aiohttp import hdrs
from aiohttp.http import HttpVersion11, RawRequestMessage

from offload.dispatch.dispatcher import JobRequest
from offload.web.answers.problems import Problem
from offload.web.parts import WebParts
from offload.web.requests.judge import judge
from offload.web.server.access_log import LogLine
from offload.web.server.request_ends import content_length

_PREFIX: Final = "/jobs/"
# So many different heads are remembered, of at most such a length, and then none: 2 MB, whoever sends what.
MAX_KNOWN: Final = 1024
_MAX_KNOWN_BYTES: Final = 2048


class RequestHead(NamedTuple):
    """What a head says: the job, the body's length in bytes (None: it comes in chunks), and whether the connection ends
    with the answer; and its line in the log."""

    job: JobRequest
    body_bytes: int | None
    should_close: bool
    line: LogLine


# What was sent, and the caller's address.
Sent = tuple[bytes, str | None]


class RequestHeads:
    """The memory of one server.  `known` is what a head says that came before from the same caller, or None."""

    def __init__(self, parts: WebParts) -> None:
        self._parts = parts
        self._known: dict[Sent, RequestHead] = {}
        self.known: Final[Callable[[Sent], RequestHead | None]] = self._known.get

    def __len__(self) -> int:
        return len(self._known)

    def read(self, message: RawRequestMessage, address: str | None) -> RequestHead | None:
        """The job that is asked for; None for what the handlers have to look at."""
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
            job = judge(
                self._parts, name, message.headers, query=query, address=address, announced_bytes=body_bytes or 0
            )
        except Problem:
            return None  # the handler says so
        line = LogLine.of(hdrs.METH_POST, path, request_id=job.labels.get("request_id", ""), remote=address)
        return RequestHead(job, body_bytes, message.should_close, line)

    def remember(self, sent: bytes, address: str | None, head: RequestHead) -> None:
        """The bytes that were sent are that head, and nothing of another request was before them."""
        if head.job.labels or head.body_bytes is None or len(sent) > _MAX_KNOWN_BYTES:
            return  # who names its requests sends another head each time
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[sent, address] = head
