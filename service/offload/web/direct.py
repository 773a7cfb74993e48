"""The short way for small jobs: from the bytes of a request to those of its answer, without a task of asyncio's.

Lives here: a connection that takes the requests itself which ask for a job and have come whole, as nearly all do.
aiohttp parses them; then, instead of a task, a request, a route and a response, they cost two callbacks.  A head that
was parsed before, byte for byte, is not parsed again.  Every other request, and whatever is wrong with one, is left to
aiohttp and the handlers, in the order in which they came.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sized
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple, cast

from aiohttp import StreamReader, hdrs, web
from aiohttp.http import HttpVersion11, RawRequestMessage

from offload.core.job import Job, Reason
from offload.dispatch.dispatcher import JobRequest
from offload.engines.letting_go import let_go
from offload.web.access_log import AccessLog, LogLine
from offload.web.connection import Connection
from offload.web.exchange import COUNTED_BYTES, internal_problem
from offload.web.judge import judge
from offload.web.large import send_content
from offload.web.outcomes import outcome_reply
from offload.web.parts import WebParts
from offload.web.problems import CLIENT_CLOSED, Problem
from offload.web.reply import Reply
from offload.web.response_head import HeadWriter
from offload.worker.shared_bytes import SharedBytes

logger: Final = logging.getLogger("offload.web")

_PREFIX: Final = "/jobs/"
_END_OF_HEAD: Final = b"\r\n\r\n"
# Clients send the same head with each of their requests.  So many different ones are remembered, of at most such a
# length, and then none: 2 MB, whoever sends what.
_MAX_KNOWN_HEADS: Final = 1024
_MAX_KNOWN_BYTES: Final = 2048

# What of aiohttp's connection is needed here and not promised.  Where it is missing, aiohttp has all requests.
_NEEDED: Final = {
    "_buffer_paused",
    "_keepalive_handle",
    "_keepalive_timeout",
    "_messages",
    "_next_keepalive_close_time",
    "_parser",
    "_paused",
    "_process_keepalive",
    "_reading_paused",
    "_request_count",
    "_waiter",
}
IS_POSSIBLE: Final = set(dir(web.RequestHandler)) >= _NEEDED


class Head(NamedTuple):
    """What the head of a request says: the job, the body's length, and whether the connection ends with the answer;
    and its line in the log."""

    job: JobRequest
    body_bytes: int
    should_close: bool
    line: LogLine


class DirectJobs:
    """What all connections of one server share."""

    def __init__(self, parts: WebParts, access_log: AccessLog) -> None:
        self.dispatcher: Final = parts.dispatcher
        self.heads: Final = HeadWriter()
        self._parts = parts
        self._access_log = access_log
        self._known: dict[tuple[bytes, str | None], Head] = {}

    def known(self, head: bytes, address: str | None) -> Head | None:
        """What a head says that came before, from the same caller; None if it did not."""
        known = self._known.get((head, address))
        return None if known is None or self.dispatcher.is_suspect(known.job.limits) else known

    def read(self, message: RawRequestMessage, body: StreamReader, address: str | None) -> Head | None:
        """The job that is asked for; None for what the handlers have to look at."""
        if message.method != hdrs.METH_POST or not message.path.startswith(_PREFIX) or not body.is_eof():
            return None
        if message.version != HttpVersion11 or message.upgrade or body.exception() is not None:
            return None
        if body.total_bytes > self._parts.max_body_bytes:
            return None
        job = self._judge(message, address)
        if job is None or self.dispatcher.is_suspect(job.limits):
            return None
        path = message.path.partition("?")[0]
        line = LogLine.of(hdrs.METH_POST, path, request_id=job.labels.get("request_id", ""), remote=address)
        return Head(job, body.total_bytes, message.should_close, line)

    def remember(self, sent: bytes, address: str | None, head: Head) -> None:
        """What was sent is that head, and its request came whole."""
        if head.job.labels or len(sent) > _MAX_KNOWN_BYTES:
            return  # who names its requests sends another head each time
        if len(self._known) >= _MAX_KNOWN_HEADS:
            self._known.clear()
        self._known[sent, address] = head

    def bug(self, job: Job, error: BaseException) -> Reply:
        """What a caller is told whose answer could not be made, which is our fault."""
        logger.error("a job could not be answered", exc_info=error, extra={"fields": {"job_id": job.id}})
        return internal_problem(error, is_debug=self._parts.is_debug).reply()

    def log(self, job: Job, reply: Reply, head: Head, *, began_at: float) -> None:
        if self._parts.has_access_log:
            duration_s = time.perf_counter() - began_at
            self._access_log.add(
                head.line.answered(status=reply.status, body_bytes=len(reply.body), duration_s=duration_s, job=job)
            )

    def _judge(self, message: RawRequestMessage, address: str | None) -> JobRequest | None:
        name = message.path[len(_PREFIX) :].partition("?")[0]
        headers = message.headers
        if "/" in name or "%" in name or hdrs.EXPECT in headers:
            return None
        query = message.url.raw_query_string
        try:
            return judge(self._parts, name, headers, query=query, address=address, announced_bytes=0)
        except Problem:
            return None  # the handler says so


class DirectConnection(Connection):
    """At most one job of its own at a time, and then no request is aiohttp's."""

    __slots__ = ("_address", "_began_at", "_direct", "_finishing", "_head", "_is_in_step", "_is_shared", "_job")

    def __init__(self, server: web.Server, problem_log: AccessLog | None, direct: DirectJobs, **knobs: Any) -> None:
        super().__init__(server, problem_log, **knobs)
        self._direct = direct
        self._address: str | None = None
        self._began_at = 0.0
        self._head: Head | None = None
        self._is_in_step = True
        self._is_shared = False
        self._job: Job | None = None
        self._finishing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if isinstance(peer, tuple) else peer and str(peer)

    def data_received(self, data: bytes) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            self._is_shared = True
            self._is_in_step = self._is_in_step and not data  # without data, aiohttp has its parser go on
            super().data_received(data)  # aiohttp is at a request, and takes the next by itself
            return
        sent = b""
        if self._is_in_step and self._head is None and not self._messages and not self._paused:
            sent = data[: data.find(_END_OF_HEAD) + len(_END_OF_HEAD)]
            head = self._direct.known(sent, self._address)
            if head is not None and len(data) == len(sent) + head.body_bytes:
                self._head = head
                self._request_count += 1
                self._run(head, data[len(sent) :])
                return
        waiting = len(self._messages)
        self._waiter = None  # or aiohttp would take the request
        web.RequestHandler.data_received(self, data)
        self._waiter = waiter
        if data or len(self._messages) > waiting:
            self._is_in_step = len(self._messages) == waiting + 1 and _ends_with(data, *self._messages[-1])
        self._take_next(sent if self._is_in_step else b"")

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._finishing is not None:
            self._finishing.cancel()
        elif self._job is not None:
            self._direct.dispatcher.cancel(self._job, Reason.DISCONNECTED)

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """Answers that are being sent get the time that aiohttp gives to its own."""
        if self._finishing is not None:
            await asyncio.wait([self._finishing], timeout=timeout)
        await super().shutdown(timeout)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Called for each body that is read.  As long as all requests came whole and were ours, aiohttp would parse
        nothing once more, and ask the transport to go on.

        Of others its parser may hold back some without telling: it counts a body that comes late as one more request
        that waits.  Then nothing but this has it go on.
        """
        if self._is_shared or self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def _take_next(self, sent: bytes = b"") -> None:
        """Runs the job that the next request asks for, or lets aiohttp have the request.  `sent` is the request's head,
        where it is at hand."""
        waiter = self._waiter
        if self._head is not None or not self._messages or waiter is None or waiter.done():
            return
        message, body = self._messages[0]
        if isinstance(message, RawRequestMessage) and not self._paused and not self._buffer_paused:
            head = self._direct.read(message, body, self._address)
            if head is not None and self._parser is not None:
                if sent:
                    self._direct.remember(sent, self._address, head)
                self._messages.popleft()
                self._head = head  # first: to read the body may have the next request parsed, which has to wait
                self._parser.message_consumed()
                self._run(head, body.read_nowait())
                return
        self._is_shared = True
        waiter.set_result(None)

    def _run(self, head: Head, body: bytes) -> None:
        self._began_at = time.perf_counter()
        dispatcher = self._direct.dispatcher
        self._job = job = dispatcher.new_job(head.job, body)
        dispatcher.submit(job, self._on_end)

    def _on_end(self, job: Job) -> None:
        try:
            reply = outcome_reply(job)
        except Exception as error:
            reply = self._direct.bug(job, error)
        is_last = self._is_last()
        if job.crashes or len(reply.body) > COUNTED_BYTES:
            self._finishing = self._loop.create_task(self._finish(job, reply, is_last=is_last))
            self._finishing.add_done_callback(partial(self._finished, job, reply, reply.body, is_last))
        else:
            self._send(job, reply, is_last=is_last)
            self._end(job, reply, is_last=is_last)

    async def _finish(self, job: Job, reply: Reply, *, is_last: bool) -> None:
        """What takes longer than a moment: to look at what has killed a worker, and to send what is large."""
        dispatcher = self._direct.dispatcher
        if job.crashes:
            await dispatcher.identify(job)
        with dispatcher.leaving(len(reply.body)), suppress(ConnectionError):
            self._send(job, reply, is_last=is_last)
            if isinstance(reply.body, SharedBytes) and self.transport is not None:
                await send_content(reply.body, self.transport, self._write)
            await self._drain_helper()

    async def _write(self, data: bytes) -> None:
        if self.transport is None:
            raise ConnectionResetError
        self.transport.write(data)
        await self._drain_helper()

    def _finished(self, job: Job, reply: Reply, content: Sized, is_last: bool, finishing: asyncio.Task[None]) -> None:
        self._finishing = None
        let_go(content)
        if finishing.cancelled():  # before it began, maybe
            reply.status, reply.body = CLIENT_CLOSED, b""
        elif (error := finishing.exception()) is not None:
            reply, is_last = self._direct.bug(job, error), True  # nobody knows what the caller has of its answer
        self._end(job, reply, is_last=is_last)

    def _is_last(self) -> bool:
        """Whether the connection ends with this answer."""
        head = self._head
        return head is None or head.should_close or self._direct.dispatcher.is_draining

    def _send(self, job: Job, reply: Reply, *, is_last: bool) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            reply.status, reply.body = CLIENT_CLOSED, b""
            return
        head = self._direct.heads.head(reply, request_id=_request_id(job), is_last=is_last)
        body = reply.body
        if isinstance(body, bytes) and len(body) <= COUNTED_BYTES:
            transport.write(head + body)
            return
        transport.write(head)
        if not isinstance(body, SharedBytes):  # that one follows, see `_finish`
            transport.write(cast(bytes, body))

    def _end(self, job: Job, reply: Reply, *, is_last: bool) -> None:
        """The answer is on its way, or nobody is there to get it."""
        head, self._head, self._job = self._head, None, None
        assert head is not None
        self._direct.log(job, reply, head, began_at=self._began_at)
        if is_last:
            self.close()
            if self.transport is not None:
                self.transport.close()  # which sends what is left; until then it is watched whether that is taken
            return
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._messages:
            self._loop.call_soon(self._take_next)

    def _process_keepalive(self) -> None:
        """To aiohttp, a connection of which we run a job does nothing."""
        if self._head is None:
            super()._process_keepalive()
        else:
            self._keepalive_handle = self._loop.call_later(self._keepalive_timeout, self._process_keepalive)


def _ends_with(data: bytes, message: object, body: StreamReader) -> bool:
    """Whether the last of the data is the last of this request, which began in it: then the parser has nothing left,
    and a head that comes next stands for itself."""
    if not isinstance(message, RawRequestMessage) or not body.is_eof():
        return False
    end_of_head = data.find(_END_OF_HEAD)
    return end_of_head >= 0 and end_of_head + len(_END_OF_HEAD) + body.total_bytes == len(data)


def _request_id(job: Job) -> str:
    return job.labels.get("request_id", "") if job.labels else ""
