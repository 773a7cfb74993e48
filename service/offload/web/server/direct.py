"""The short way for small jobs: from the bytes of a request to those of its answer, without a task of asyncio's.

Lives here: a connection that takes the requests itself which ask for a job and have come whole, as nearly all do.
aiohttp parses them, unless their head is known from before; then, instead of a task, a request, a route and a response,
they cost two callbacks.  Every other request, and whatever is wrong with one, is left to aiohttp and the handlers, in
the order in which they came.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast

from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage

from offload.core.job import Job, Reason
from offload.engines.release import release_body
from offload.web.answers.outcomes import outcome_reply
from offload.web.answers.reply import CLIENT_CLOSED_REPLY, Reply
from offload.web.answers.request_problems import internal_error
from offload.web.answers.timing import Timing, timing_of
from offload.web.parts import WebParts
from offload.web.server.access_log import AccessLog
from offload.web.server.connection import Connection
from offload.web.server.known_heads import RequestHead, RequestHeads
from offload.web.server.request_ends import END_OF_HEAD, RequestEnds
from offload.web.server.response_head import HeadWriter
from offload.web.server.sending import COUNTED_BYTES, send_content
from offload.wire.shared_bytes import SharedBytes

logger: Final = logging.getLogger("offload.web")

# Many clients send head and body one after the other.  So long a request whose head is known is kept until the rest is
# there; then aiohttp has what has come, and waits for more as for any other.
_PATIENCE_S: Final = 0.005
_MAX_KEPT_BYTES: Final = 64 * 1024

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


class DirectJobs:
    """What all connections of one server share."""

    def __init__(self, parts: WebParts, access_log: AccessLog) -> None:
        self.dispatcher: Final = parts.dispatcher
        self.heads: Final = RequestHeads(parts)
        self.writer: Final = HeadWriter()
        self.max_body_bytes: Final = parts.max_body_bytes
        self.access_log: Final = access_log if parts.has_access_log else None
        self._parts = parts

    def bug(self, job: Job, error: BaseException) -> Reply:
        """What a caller is told whose answer could not be made, which is our fault."""
        logger.error("a job could not be answered", exc_info=error, extra={"fields": {"job_id": job.id}})
        return internal_error(error, is_debug=self._parts.is_debug).reply()


class DirectConnection(Connection):
    """At most one job of its own at a time, and then no request is aiohttp's."""

    __slots__ = (
        "_address",
        "_began_at",
        "_direct",
        "_ends",
        "_finishing",
        "_head",
        "_is_shared",
        "_job",
        "_kept",
        "_kept_timer",
    )

    def __init__(self, server: web.Server, problem_log: AccessLog | None, direct: DirectJobs, **knobs: Any) -> None:
        super().__init__(server, problem_log, **knobs)
        self._direct = direct
        self._address: str | None = None
        self._began_at = 0.0
        self._head: RequestHead | None = None
        self._is_shared = False
        self._job: Job | None = None
        self._kept = b""
        self._kept_timer: asyncio.TimerHandle | None = None
        self._ends = RequestEnds()
        self._finishing: asyncio.Task[Reply] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if isinstance(peer, tuple) else peer and str(peer)

    def data_received(self, data: bytes) -> None:
        is_rest = bool(self._kept and data)
        if is_rest:
            data = self._take_kept() + data
        sent = b""
        waiter = self._waiter
        is_free = waiter is not None and not waiter.done() and self._head is None and not self._messages
        if is_free and self._ends.missing_bytes == 0 and not self._paused:
            sent = data[: data.find(END_OF_HEAD) + len(END_OF_HEAD)]
            head = self._direct.heads.known((sent, self._address))
            if head is not None and head.body_bytes is not None:
                missing_bytes = len(sent) + head.body_bytes - len(data)
                if not missing_bytes and not self._direct.dispatcher.is_suspect(head.job.limits):
                    self._head = head
                    self._request_count += 1
                    self._run(head, data[len(sent) :])
                    return
                if 0 < missing_bytes <= _MAX_KEPT_BYTES and not is_rest:
                    self._keep(data)
                    return
        self._parse(data, sent)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._take_kept()  # whoever has sent but a part of a request has asked for nothing
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

    def _keep(self, data: bytes) -> None:
        """Until the rest comes, which as a rule is on its way."""
        self._kept = data
        self._kept_timer = self._loop.call_later(_PATIENCE_S, self._lose_patience)

    def _take_kept(self) -> bytes:
        kept, self._kept = self._kept, b""
        if self._kept_timer is not None:
            self._kept_timer.cancel()
            self._kept_timer = None
        return kept

    def _lose_patience(self) -> None:
        if self._kept:
            self._parse(self._take_kept(), b"")

    def _parse(self, data: bytes, sent: bytes) -> None:
        """Has aiohttp read what has come.  `sent` may be the head that it begins with."""
        waiter, waiting = self._waiter, len(self._messages)
        if waiter is None or waiter.done():
            self._is_shared = True
            super().data_received(data)  # aiohttp is at a request, and takes the next by itself
            self._ends.count(data, list(self._messages)[waiting:])
            return
        self._waiter = None  # or aiohttp would take the request
        web.RequestHandler.data_received(self, data)
        self._waiter = waiter
        self._ends.count(data, list(self._messages)[waiting:])
        # Where it is known where the request ends, so it is where its head did.
        self._take_next(b"" if self._ends.missing_bytes is None else sent)

    def _take_next(self, sent: bytes = b"") -> None:
        """Runs the job that the next request asks for, or lets aiohttp have the request.  `sent` is the request's head,
        where it is at hand."""
        waiter = self._waiter
        if self._head is not None or not self._messages or waiter is None or waiter.done():
            return
        message, body = self._messages[0]
        head = self._head_of(message, body, sent)
        if head is None or self._parser is None:
            self._is_shared = True
            waiter.set_result(None)
            return
        self._messages.popleft()
        self._head = head  # first: to read the body may have the next request parsed, which has to wait
        self._parser.message_consumed()
        self._run(head, body.read_nowait())

    def _head_of(self, message: object, body: StreamReader, sent: bytes) -> RequestHead | None:
        """What is asked for by a request that has come whole and that we can run; what `sent` says is remembered."""
        is_whole = body.is_eof() and body.exception() is None and body.total_bytes <= self._direct.max_body_bytes
        if not isinstance(message, RawRequestMessage) or not (is_whole or sent):
            return None
        head = self._direct.heads.read(message, self._address)
        if head is None:
            return None
        if sent:
            self._direct.heads.remember(sent, self._address, head)
        if not is_whole or self._paused or self._buffer_paused or self._direct.dispatcher.is_suspect(head.job.limits):
            return None
        return head

    def _run(self, head: RequestHead, body: bytes) -> None:
        self._began_at = time.perf_counter()
        dispatcher = self._direct.dispatcher
        self._job = job = dispatcher.new_job(head.job, body)
        dispatcher.submit(job, self._on_end)

    def _on_end(self, job: Job) -> None:
        timing: Timing | None = None
        try:
            timing = timing_of(job)
            reply = outcome_reply(job, timing)
        except Exception as error:
            reply = self._direct.bug(job, error)
        head = self._head
        is_last = head is None or head.should_close or self._direct.dispatcher.is_draining
        if job.crashes or len(reply.body) > COUNTED_BYTES:
            self._finishing = self._loop.create_task(self._finish(job, reply, is_last=is_last))
            self._finishing.add_done_callback(partial(self._finished, job, reply, timing, is_last))
        else:
            self._end(job, self._send(job, reply, is_last=is_last), timing, is_last=is_last)

    async def _finish(self, job: Job, reply: Reply, *, is_last: bool) -> Reply:
        """Send what takes longer than a moment: an answer that is large, or whose job killed a worker and must be
        identified first. Return what was sent."""
        dispatcher = self._direct.dispatcher
        if job.crashes:
            await dispatcher.identify(job)
        sent = reply
        with dispatcher.leaving(len(reply.body)), suppress(ConnectionError):
            sent = self._send(job, reply, is_last=is_last)
            if isinstance(sent.body, SharedBytes) and self.transport is not None:
                await send_content(sent.body, self.transport, self._write)
            await self._drain_helper()
        return sent

    async def _write(self, data: bytes) -> None:
        if self.transport is None:
            raise ConnectionResetError
        self.transport.write(data)
        await self._drain_helper()

    def _finished(
        self, job: Job, reply: Reply, timing: Timing | None, is_last: bool, finishing: asyncio.Task[Reply]
    ) -> None:
        self._finishing = None
        release_body(reply.body)
        if finishing.cancelled():  # possibly before it began
            sent = CLIENT_CLOSED_REPLY
        elif (error := finishing.exception()) is not None:
            sent, is_last = self._direct.bug(job, error), True  # an unknown part of the answer was sent
        else:
            sent = finishing.result()
        self._end(job, sent, timing, is_last=is_last)

    def _send(self, job: Job, reply: Reply, *, is_last: bool) -> Reply:
        """Send the reply, of shared memory only the head. Return what was sent."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return CLIENT_CLOSED_REPLY
        request_id = job.labels.get("request_id", "") if job.labels else ""
        head = self._direct.writer.head(reply, request_id=request_id, is_last=is_last)
        body = reply.body
        if isinstance(body, bytes) and len(body) <= COUNTED_BYTES:
            transport.write(head + body)
            return reply
        transport.write(head)
        if not isinstance(body, SharedBytes):
            transport.write(cast(bytes, body))
        return reply

    def _end(self, job: Job, reply: Reply, timing: Timing | None, *, is_last: bool) -> None:
        """The answer was sent, or the caller is gone."""
        head, self._head, self._job = self._head, None, None
        assert head is not None
        access_log = self._direct.access_log
        if access_log is not None:
            line = head.line.answered(
                status=reply.status,
                body_bytes=len(reply.body),
                duration_s=time.perf_counter() - self._began_at,
                job=job,
                timing=timing,
            )
            access_log.add(line)
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
        if self._head is None and not self._kept:
            super()._process_keepalive()
        else:
            self._keepalive_handle = self._loop.call_later(self._keepalive_timeout, self._process_keepalive)
