"""Answers small jobs without a task, request, route or response of aiohttp: from bytes to bytes.

The connection takes the requests that ask for a job and have arrived whole, as nearly all do. aiohttp parses them
unless their head is known; after that they cost two callbacks. All other requests, and all invalid ones, go to aiohttp
and the handlers, in the order of arrival. The private attributes of aiohttp that this needs are in `_NEEDED`.
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

from offload.core.job import Job
from offload.core.outcome import Reason
from offload.core.request import JobRequest
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

# Many clients send head and body one after the other. A request with a known head is held back this long for its rest;
# then aiohttp gets what has arrived, and waits for the rest.
_REST_TIMEOUT_S: Final = 0.005
_MAX_HELD_BYTES: Final = 64 * 1024

# Private attributes of aiohttp's connection. If one is missing, aiohttp gets all requests.
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
    """What the connections of one server share."""

    def __init__(self, parts: WebParts, access_log: AccessLog) -> None:
        self.dispatcher: Final = parts.dispatcher
        self.heads: Final = RequestHeads(parts)
        self.writer: Final = HeadWriter()
        self.max_body_bytes: Final = parts.max_body_bytes
        self.access_log: Final = access_log if parts.has_access_log else None
        self._parts = parts

    def on_bug(self, job: Job, error: BaseException) -> Reply:
        """Log a bug that prevented an answer, and return the reply to send instead."""
        logger.error("a job could not be answered", exc_info=error, extra={"fields": {"job_id": job.id}})
        return internal_error(error, is_debug=self._parts.is_debug).reply()


class DirectConnection(Connection):
    """Runs at most one job at a time; meanwhile aiohttp handles no request on this connection."""

    __slots__ = (
        "_address",
        "_began_at",
        "_direct",
        "_head",
        "_held",
        "_held_timer",
        "_is_mixed",
        "_job",
        "_request_ends",
        "_sending",
    )

    def __init__(self, server: web.Server, problem_log: AccessLog | None, direct: DirectJobs, **knobs: Any) -> None:
        super().__init__(server, problem_log, **knobs)
        self._direct = direct
        self._address: str | None = None
        self._began_at = 0.0
        self._head: RequestHead | None = None
        self._is_mixed = False
        self._job: Job | None = None
        self._held = b""
        self._held_timer: asyncio.TimerHandle | None = None
        self._request_ends = RequestEnds()
        self._sending: asyncio.Task[Reply] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if isinstance(peer, tuple) else peer and str(peer)

    def data_received(self, data: bytes) -> None:
        is_rest = bool(self._held and data)
        if is_rest:
            data = self._take_held() + data
        head_bytes = b""
        waiter = self._waiter
        is_free = waiter is not None and not waiter.done() and self._head is None and not self._messages
        if is_free and self._request_ends.missing_bytes == 0 and not self._paused:
            head_bytes = data[: data.find(END_OF_HEAD) + len(END_OF_HEAD)]
            head = self._direct.heads.known((head_bytes, self._address))
            if head is not None and head.body_bytes is not None:
                missing_bytes = len(head_bytes) + head.body_bytes - len(data)
                if not missing_bytes and not self._direct.dispatcher.is_suspect(head.terms.limits):
                    self._head = head
                    self._request_count += 1
                    self._run(head, data[len(head_bytes) :])
                    return
                if 0 < missing_bytes <= _MAX_HELD_BYTES and not is_rest:
                    self._hold(data)
                    return
        self._parse(data, head_bytes)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._take_held()  # part of a request asks for nothing
        super().connection_lost(exc)
        if self._sending is not None:
            self._sending.cancel()
        elif self._job is not None:
            self._direct.dispatcher.cancel(self._job, Reason.DISCONNECTED)

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """Give answers that are being sent the time that aiohttp gives its own."""
        if self._sending is not None:
            await asyncio.wait([self._sending], timeout=timeout)
        await super().shutdown(timeout)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Called by aiohttp for each body that is read.

        Not needed while this connection has run all its requests here: aiohttp would parse nothing and resume a
        transport that is not paused. Otherwise its parser may hold back requests, because it counts a body that
        arrives late as one more waiting request, and only this call makes it continue.
        """
        if self._is_mixed or self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def _hold(self, data: bytes) -> None:
        """Hold back a request whose rest is probably on its way."""
        self._held = data
        self._held_timer = self._loop.call_later(_REST_TIMEOUT_S, self._on_rest_timeout)

    def _take_held(self) -> bytes:
        held, self._held = self._held, b""
        if self._held_timer is not None:
            self._held_timer.cancel()
            self._held_timer = None
        return held

    def _on_rest_timeout(self) -> None:
        if self._held:
            self._parse(self._take_held(), b"")

    def _parse(self, data: bytes, head_bytes: bytes) -> None:
        """Let aiohttp parse `data`. `head_bytes` is the head that it may begin with."""
        waiter, waiting = self._waiter, len(self._messages)
        if waiter is None or waiter.done():
            self._is_mixed = True
            super().data_received(data)  # aiohttp is handling a request and takes the next by itself
            self._request_ends.count(data, list(self._messages)[waiting:])
            return
        self._waiter = None  # else aiohttp would take the request
        web.RequestHandler.data_received(self, data)
        self._waiter = waiter
        self._request_ends.count(data, list(self._messages)[waiting:])
        # If the end of the request is known, so is the end of its head.
        self._take_next(b"" if self._request_ends.missing_bytes is None else head_bytes)

    def _take_next(self, head_bytes: bytes = b"") -> None:
        """Run the job of the next request, or leave the request to aiohttp. `head_bytes` is its head, if known."""
        waiter = self._waiter
        if self._head is not None or not self._messages or waiter is None or waiter.done():
            return
        message, body = self._messages[0]
        head = self._head_of(message, body, head_bytes)
        if head is None or self._parser is None:
            self._is_mixed = True
            waiter.set_result(None)
            return
        self._messages.popleft()
        self._head = head  # first: reading the body may parse the next request, which must wait
        self._parser.message_consumed()
        self._run(head, body.read_nowait())

    def _head_of(self, message: object, body: StreamReader, head_bytes: bytes) -> RequestHead | None:
        """Returns the head of a request that is complete and can run here, else None. Remembers `head_bytes`."""
        is_whole = body.is_eof() and body.exception() is None and body.total_bytes <= self._direct.max_body_bytes
        if not isinstance(message, RawRequestMessage) or not (is_whole or head_bytes):
            return None
        head = self._direct.heads.read(message, self._address)
        if head is None:
            return None
        if head_bytes:
            self._direct.heads.remember(head_bytes, self._address, head)
        if not is_whole or self._paused or self._buffer_paused or self._direct.dispatcher.is_suspect(head.terms.limits):
            return None
        return head

    def _run(self, head: RequestHead, body: bytes) -> None:
        self._began_at = time.perf_counter()
        dispatcher = self._direct.dispatcher
        self._job = job = dispatcher.new_job(JobRequest(head.terms, body))
        dispatcher.submit(job, self._on_end)

    def _on_end(self, job: Job) -> None:
        timing: Timing | None = None
        try:
            timing = timing_of(job)
            reply = outcome_reply(job, timing)
        except Exception as error:
            reply = self._direct.on_bug(job, error)
        head = self._head
        is_last = head is None or head.should_close or self._direct.dispatcher.is_draining
        if job.crashes or len(reply.body) > COUNTED_BYTES:
            self._sending = self._loop.create_task(self._send_slowly(job, reply, is_last=is_last))
            self._sending.add_done_callback(partial(self._on_sent, job, reply, timing, is_last))
        else:
            self._complete(job, self._send(job, reply, is_last=is_last), timing, is_last=is_last)

    async def _send_slowly(self, job: Job, reply: Reply, *, is_last: bool) -> Reply:
        """Send a large answer, or one that must wait until the job that killed a worker is identified.

        Returns what was sent.
        """
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

    def _on_sent(
        self, job: Job, reply: Reply, timing: Timing | None, is_last: bool, sending: asyncio.Task[Reply]
    ) -> None:
        self._sending = None
        release_body(reply.body)
        if sending.cancelled():  # possibly before it began
            sent = CLIENT_CLOSED_REPLY
        elif (error := sending.exception()) is not None:
            sent, is_last = self._direct.on_bug(job, error), True  # an unknown part of the answer was sent
        else:
            sent = sending.result()
        self._complete(job, sent, timing, is_last=is_last)

    def _send(self, job: Job, reply: Reply, *, is_last: bool) -> Reply:
        """Send the reply, of shared memory only the head. Return what was sent."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return CLIENT_CLOSED_REPLY
        request_id = job.request.terms.head.request_id
        head = self._direct.writer.head(reply, request_id=request_id, is_last=is_last)
        body = reply.body
        if isinstance(body, bytes) and len(body) <= COUNTED_BYTES:
            transport.write(head + body)
            return reply
        transport.write(head)
        if not isinstance(body, SharedBytes):
            transport.write(cast(bytes, body))
        return reply

    def _complete(self, job: Job, reply: Reply, timing: Timing | None, *, is_last: bool) -> None:
        """Log the answer, which was sent unless the caller is gone, and continue with the next request."""
        head, self._head, self._job = self._head, None, None
        assert head is not None
        access_log = self._direct.access_log
        if access_log is not None:
            line = head.line.complete(
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
                self.transport.close()  # sends what is left; the stall timer still runs
            return
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._messages:
            self._loop.call_soon(self._take_next)

    def _process_keepalive(self) -> None:
        """Keep aiohttp from closing a connection that is idle only from its point of view."""
        if self._head is None and not self._held:
            super()._process_keepalive()
        else:
            self._keepalive_handle = self._loop.call_later(self._keepalive_timeout, self._process_keepalive)
