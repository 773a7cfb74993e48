"""Small jobs bypass the handlers. Both paths give the same answers, and a mixed connection keeps the order."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import pytest
from aiohttp import web

from offload.core.job import Job
from offload.core.outcome import Outcome, Reason
from offload.core.request import JobRequest, JobTerms
from offload.web.answers.reply import Reply
from offload.web.answers.timing import Timing
from offload.web.requests.exchange import Exchange
from offload.web.routes.jobs import JobHandlers
from offload.web.server import direct, known_heads
from offload.web.server.access_log import Batch
from offload.web.server.direct import DirectConnection
from offload.web.server.known_heads import RequestHead, RequestHeads
from tests.support.fake_engine import FakeEngine, body_of, result
from tests.support.raw_http import Answer
from tests.support.web_service import BOUND_S, catalogue, eventually, web_service

CHANGING = ("Date", "Job-Id", "Server-Timing")


def request(*lines: str, path: str = "/jobs/primes", body: bytes = b'{"limit": 30}', version: str = "1.1") -> bytes:
    head = [f"POST {path} HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


REQUESTS = {
    "as curl sends it": request("Accept: */*", "Content-Type: application/x-www-form-urlencoded"),
    "every header that the service reads": request(
        "Request-Timeout: 2.5",
        "Priority: u=1",
        "X-Request-ID: r-17",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ),
    "no body": request(body=b""),
    "chunked": b"POST /jobs/primes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a query": request(path="/jobs/resize?width=10&name=a%20b"),
    "last on its connection": request("Connection: close"),
    "HTTP/1.0": request(version="1.0"),
    "HTTP/1.0 with keep-alive": request("Connection: keep-alive", version="1.0"),
    "an unknown task": request(path="/jobs/prime"),
    "an encoded name": request(path="/jobs/p%72imes"),
    "a job's own path": request(path="/jobs/primes/1"),
    "an invalid budget": request("Request-Timeout: soon"),
    "an unsupported media type": request("Content-Type: application/x-ndjson"),
    "a compressed body": request("Content-Encoding: gzip"),
    "a body compressed by the connection": b"POST /jobs/resize HTTP/1.1\r\nHost: x\r\n"
    b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a part of a body": request("Content-Range: bytes 0-12/20"),
    "a body compressed twice": request("Content-Encoding: gzip, gzip"),
    "a form": request("Content-Type: multipart/form-data; boundary=x", body=b"--x--\r\n"),
    "another envelope": request("Content-Type: multipart/mixed; boundary=x", path="/jobs/resize"),
    "a large body": request(body=b"[" + b"7," * (1 << 15) + b"7]"),
    "a job that fails": request(path="/jobs/solve"),
}


def answer_of(job: Job) -> Outcome:
    if job.limits.name == "solve":
        return Outcome(reason=Reason.TASK_ERROR, body=b'{"detail":"It raised","exception":"ValueError"}')
    return result(body_of(job))


@contextmanager
def handlers_only() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RequestHeads, "read", lambda *_: None)
        yield


def made_connections(patch: pytest.MonkeyPatch) -> list[DirectConnection]:
    """Return a list that collects the service's connections made from now on."""
    made: list[DirectConnection] = []
    connection_made = DirectConnection.connection_made

    def note(connection: DirectConnection, transport: asyncio.BaseTransport) -> None:
        made.append(connection)
        connection_made(connection, transport)

    patch.setattr(DirectConnection, "connection_made", note)
    return made


async def answered(sent: bytes) -> tuple[Answer, bool]:
    """Return the answer, and whether the connection stays open."""
    engine = FakeEngine(answer=answer_of)
    async with web_service(engine=engine, content_codings=("gzip",)) as service, service.raw() as caller:
        caller.send(sent)
        answer = await caller.answer()
        caller.send(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        stays = answer.headers.get("Connection") != "close" and b"HTTP/1.0" not in sent
        if stays:
            assert (await caller.answer()).status == 200
    return answer, stays


@pytest.mark.parametrize("sent", REQUESTS.values(), ids=REQUESTS.keys())
async def test_the_direct_path_and_the_handlers_give_the_same_answers(sent: bytes) -> None:
    direct_answer, stays = await answered(sent)
    with handlers_only():
        handlers_answer, stays_there = await answered(sent)
    assert (direct_answer.status, stays) == (handlers_answer.status, stays_there)
    assert dict(_unchanging(direct_answer)) == dict(_unchanging(handlers_answer))
    if direct_answer.status == 200:
        assert direct_answer.body == handlers_answer.body


async def test_small_jobs_bypass_the_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("a handler was called")

    monkeypatch.setattr(JobHandlers, "run", fail)
    async with web_service(engine=FakeEngine(answer=answer_of)) as service:
        assert (await service.post("primes", data=b"{}")).status == 200
        assert (await service.post("primes", data=b"{}", headers={"Expect": "100-continue"})).status == 500


async def test_a_small_job_starts_no_asyncio_task() -> None:
    async with web_service() as service, service.raw() as caller:
        caller.send(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await caller.answer()).status == 200
        before = len(asyncio.all_tasks())
        caller.send(request())
        job = await service.engine.next_started()
        assert len(asyncio.all_tasks()) == before
        service.engine.finish(job, result())
        assert (await caller.answer()).status == 200


async def test_requests_that_arrive_together_are_answered_in_order() -> None:
    live = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    async with web_service(engine=FakeEngine(answer=answer_of)) as service, service.raw() as caller:
        caller.send(request(body=b"1") + live + request(body=b"2") + request(path="/jobs/none") + request(body=b"3"))
        answers = [await caller.answer() for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 404, 200]
    assert [answer.body for answer in answers if "Job-Id" in answer.headers] == [b"1", b"2", b"3"]


async def test_the_next_request_waits_for_the_previous_job() -> None:
    async with web_service(engine=FakeEngine(slots=2)) as service, service.raw() as caller:
        caller.send(request(body=b"1") + request(body=b"2"))
        first = await service.engine.next_started()
        assert service.scheduler.tally.submitted == 1
        service.engine.finish(first, result(b"1"))
        service.engine.finish(await service.engine.next_started(), result(b"2"))
        assert [(await caller.answer()).body for _ in range(2)] == [b"1", b"2"]


async def test_many_pipelined_requests_stay_in_the_kernel() -> None:
    count = 2_000
    async with web_service(engine=FakeEngine(answer=answer_of)) as service, service.raw() as caller:
        caller.send(request() * count)
        for _ in range(count):
            assert (await caller.answer()).status == 200
    assert service.counts.succeeded == count


async def test_a_late_body_goes_to_the_handlers_and_the_next_job_does_not() -> None:
    async with web_service(engine=FakeEngine(answer=answer_of)) as service, service.raw() as caller:
        whole = request(body=b"0123456789")
        for _ in range(3):
            caller.send(whole[:-4])
            await caller.sent()
            await eventually("the head has been read", lambda: service.scheduler.traffic.arriving_bytes)
            caller.send(whole[-4:])
            assert (await caller.answer()).body == b"0123456789"
            caller.send(whole)
            assert (await caller.answer()).body == b"0123456789"


async def test_a_body_too_large_to_buffer_does_not_overtake_the_previous_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading one body makes aiohttp resume the next where it stopped."""
    large = b"9" * 600_000  # aiohttp buffers half a megabyte
    connections = made_connections(monkeypatch)
    async with (
        web_service(engine=FakeEngine(slots=3), max_body_bytes=1 << 20, queue_bytes=1 << 22) as service,
        service.raw() as caller,
    ):
        caller.send(request(body=b"1"))
        job = await service.engine.next_started()
        connections[0].data_received(request(body=b"2") + request(body=large) + request(body=b"4"))
        for body in (b"2", large, b"4"):
            service.engine.finish(job, result(bytes(body_of(job)[:1])))
            job = await service.engine.next_started()
            assert job.request.body == body
        service.engine.finish(job, result(b"4"))
        assert [(await caller.answer()).body for _ in range(4)] == [b"1", b"2", b"9", b"4"]


async def test_many_requests_behind_a_late_body_are_all_answered() -> None:
    """aiohttp's parser counts a late body twice, and so holds back one request earlier than aiohttp assumes."""
    async with web_service(engine=FakeEngine(answer=answer_of)) as service, service.raw() as caller:
        late = request(body=b"0123456789")
        caller.send(late[:-4])
        await caller.sent()
        await eventually("the head has been read", lambda: service.scheduler.traffic.arriving_bytes)
        caller.send(late[-4:])
        assert (await caller.answer()).body == b"0123456789"
        caller.send(request() * 40)
        assert [(await caller.answer()).status for _ in range(40)] == [200] * 40


async def test_a_body_in_very_many_chunks_blocks_nothing() -> None:
    """After one chunk too many, aiohttp's parser stops at the next body."""
    head = b"POST /jobs/primes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = 16_385
    async with web_service(engine=FakeEngine(answer=answer_of)) as service, service.raw() as caller:
        caller.send(head + b"1\r\n7\r\n" * chunks + b"0\r\n\r\n" + request(body=b"2"))
        assert (await caller.answer()).body == b"7" * chunks
        assert (await caller.answer()).body == b"2"


async def test_a_connection_with_a_running_job_is_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offload.web.server.runner._KEEP_ALIVE_S", 0.05)
    keepalive_expired = asyncio.Event()
    process_keepalive = DirectConnection._process_keepalive

    def note(connection: DirectConnection) -> None:
        process_keepalive(connection)
        keepalive_expired.set()

    monkeypatch.setattr(DirectConnection, "_process_keepalive", note)
    async with web_service() as service, service.raw() as busy, service.raw() as idle:
        busy.send(request())
        job = await service.engine.next_started()
        assert await idle.is_closed_by_peer()
        async with asyncio.timeout(10):
            await keepalive_expired.wait()
        service.engine.finish(job, result(b"7"))
        assert (await busy.answer()).body == b"7"
        assert await busy.is_closed_by_peer()


async def test_a_caller_that_does_not_read_its_last_answer_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offload.web.server.connection._STALLED_S", 0.05)
    connections = made_connections(monkeypatch)
    body = b"7" * 60_000  # not large, but many of them exceed the buffers of the system and the client
    async with web_service(engine=FakeEngine(answer=lambda job: result(body))) as service, service.raw() as caller:
        caller.send(request())
        await eventually("the caller is connected", lambda: connections)
        transport = connections[0].transport
        assert transport is not None
        while not transport.get_write_buffer_size():
            succeeded = service.counts.succeeded
            caller.send(request())
            await eventually("the job has succeeded", lambda: service.counts.succeeded > succeeded)  # noqa: B023
        transport.set_write_buffer_limits(high=transport.get_write_buffer_size())
        caller.send(request("Connection: close"))
        sock = transport.get_extra_info("socket")
        await eventually("the connection is closed", lambda: sock.fileno() == -1)


async def test_a_large_answer_being_sent_at_shutdown_arrives_whole() -> None:
    size = 64 << 20  # more than the buffers of the system and the client
    async with AsyncExitStack() as callers:
        async with web_service(engine=FakeEngine(answer=lambda job: result(b"7" * size))) as service:
            caller = await callers.enter_async_context(service.raw())
            caller.send(request())
            traffic = service.scheduler.traffic
            await eventually("the answer is being sent", lambda: traffic.leaving_bytes == size)
            reading = asyncio.create_task(caller.answer())
        assert traffic.leaving_bytes == 0
        assert len((await reading).body) == size


async def test_a_disconnect_at_the_end_of_the_job_is_logged_as_499(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "offload.access")
    connections = made_connections(monkeypatch)
    async with web_service() as service:
        for body in (b"7", b"7" * 100_000):
            async with service.raw() as caller:
                caller.send(request())
                job = await service.engine.next_started()
                transport = connections.pop().transport
                assert transport is not None
                transport.abort()
                service.engine.finish(job, result(body))
                assert await caller.is_closed_by_peer()
    lines = [line for record in caplog.records if isinstance(record.msg, Batch) for line in record.msg.lines()]
    assert ["status=499 bytes=0 " in line for line in lines] == [True, True]


async def test_a_bug_in_making_an_answer_is_an_internal_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(job: Job, timing: Timing) -> None:
        raise RuntimeError("the answer cannot be made")

    async with web_service() as service, service.raw() as caller:
        caller.send(request())
        with monkeypatch.context() as patch:
            patch.setattr(direct, "outcome_reply", fail)
            service.engine.finish(await service.engine.next_started(), result(b"7"))
            assert (await caller.answer()).slug == "internal-error"
        caller.send(request())
        service.engine.finish(await service.engine.next_started(), result(b"7"))
        assert (await caller.answer()).body == b"7"
    assert "the answer cannot be made" in caplog.text


async def test_an_error_in_one_callback_does_not_affect_other_callers(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[Job] = []

    def fail(job: Job) -> None:
        raise RuntimeError("the callback fails")

    async with web_service(engine=FakeEngine(slots=2)) as service:
        dispatcher, request = service.dispatcher, JobRequest(JobTerms(limits=catalogue()["primes"].limits))
        for on_end in (fail, ended.append):
            dispatcher.submit(dispatcher.new_job(request), on_end)
        dispatcher.stop_all()
        assert len(ended) == 1
        assert service.scheduler.is_empty
    assert "the callback fails" in caplog.text


async def test_the_memory_of_known_heads_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_heads, "MAX_KNOWN", 4)
    remembered: list[int] = []
    remember = RequestHeads.remember

    def count(heads: RequestHeads, sent: bytes, address: str | None, head: RequestHead) -> None:
        remember(heads, sent, address, head)
        remembered.append(len(heads))

    monkeypatch.setattr(RequestHeads, "remember", count)
    async with web_service(engine=FakeEngine(answer=answer_of)) as service, service.raw() as caller:
        for number in range(20):
            caller.send(request(f"X-Any: {number}"))
            assert (await caller.answer()).status == 200
        caller.send(request(f"X-Any: {'x' * 4000}"))
        assert (await caller.answer()).status == 200
        caller.send(request("X-Request-ID: r-17"))
        assert (await caller.answer()).status == 200
    assert max(remembered) == 4
    assert remembered[-3:] == [4, 4, 4]


@pytest.mark.parametrize("is_mixed", [False, True])
async def test_a_known_head_is_not_parsed_again(is_mixed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds even after a handler has answered a request of the connection."""
    parsed: list[bytes] = []
    parse = web.RequestHandler.data_received

    def note(connection: web.RequestHandler, data: bytes) -> None:
        parsed.append(data)
        parse(connection, data)

    monkeypatch.setattr(web.RequestHandler, "data_received", note)
    first = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n" if is_mixed else b""
    sent = [request(body=b'{"limit": %d}' % number) for number in (10, 20, 30)]
    async with web_service(engine=FakeEngine(answer=echo)) as service, service.raw() as caller:
        if first:
            caller.send(first)
            assert (await caller.answer()).status == 200
        bodies = []
        for each in sent:
            caller.send(each)
            bodies.append((await caller.answer()).body)
    assert bodies == [b'{"limit": 10}', b'{"limit": 20}', b'{"limit": 30}']
    assert [data for data in parsed if data] == [data for data in (first, sent[0]) if data]


async def test_a_known_head_may_arrive_before_its_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first request, whose head is not known yet, needs a handler."""
    handled: list[object] = []
    run = JobHandlers.run

    async def note(handlers: JobHandlers, exchange: Exchange) -> Reply:
        handled.append(exchange)
        return await run(handlers, exchange)

    monkeypatch.setattr(JobHandlers, "run", note)
    monkeypatch.setattr(direct, "_REST_TIMEOUT_S", BOUND_S)
    made = made_connections(monkeypatch)
    async with web_service(engine=FakeEngine(answer=echo)) as service, service.raw() as caller:
        await eventually("the caller is connected", lambda: made)
        await settle()
        for _ in range(3):
            made[0].data_received(request(body=b"{}")[:-2])
            await settle()
            made[0].data_received(b"{}")
            assert (await caller.answer()).body == b"{}"
    assert len(handled) == 1


async def test_a_body_in_several_pieces_goes_to_the_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "_REST_TIMEOUT_S", BOUND_S)
    made = made_connections(monkeypatch)
    async with web_service(engine=FakeEngine(answer=echo)) as service, service.raw() as caller:
        sent = request(body=b"[1, 2]")
        caller.send(sent)
        assert (await caller.answer()).body == b"[1, 2]"
        made[0].data_received(sent[:-4])
        assert made[0]._held
        made[0].data_received(sent[-4:-2])
        assert not made[0]._held
        await settle()
        made[0].data_received(sent[-2:])
        assert (await caller.answer()).body == b"[1, 2]"


async def test_a_known_head_without_its_body_times_out_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with web_service(engine=FakeEngine(answer=echo), body_timeout_s=0.05) as service, service.raw() as caller:
        caller.send(request(body=b"{}"))
        assert (await caller.answer()).status == 200
        caller.send(request(body=b"{}")[:-1])
        assert (await caller.answer()).status == 408


@pytest.mark.parametrize("is_caller", [False, True], ids=["the service", "the caller"])
async def test_part_of_a_request_is_dropped_when_the_connection_closes(
    is_caller: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "_REST_TIMEOUT_S", 1000.0)
    made = made_connections(monkeypatch)
    engine = FakeEngine(answer=echo)
    async with web_service(engine=engine) as service, service.raw() as caller:
        caller.send(request(body=b"{}"))
        assert (await caller.answer()).status == 200
        caller.send(request(body=b"{}")[:-1])
        await eventually("the head has arrived", lambda: made[0]._held)
        if is_caller:
            caller.hang_up()
            await eventually("the connection is closed", lambda: made[0].transport is None)
    assert not made[0]._held
    assert made[0]._held_timer is None


@pytest.mark.parametrize("before", [b"", b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["idle", "busy"])
async def test_bytes_of_a_known_request_within_another_are_not_a_request(
    before: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`before` is being handled when the other request begins to arrive."""
    made = made_connections(monkeypatch)
    known = request(body=b"{}")
    engine = FakeEngine(answer=lambda job: result(job.limits.name.encode()))
    async with web_service(engine=engine) as service, service.raw() as caller:
        caller.send(known)
        assert (await caller.answer()).body == b"primes"
        connection = made[0]
        if before:
            connection.data_received(before)
        connection.data_received(b"POST /jobs/solve HTTP/1.1\r\nX-Any: ")
        if before:
            assert (await caller.answer()).status == 200
        await settle()
        connection.data_received(known)
        await settle()
        connection.data_received(known)
        assert [(await caller.answer()).body for _ in range(2)] == [b"solve", b"primes"]


async def test_a_body_cannot_disguise_what_follows_as_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head is cut within its end, the body contains an end of a head, and another request follows it."""
    made = made_connections(monkeypatch)
    more = b"GET /health/live HTTP/1.1\r\nX-Any: "
    body = b"x" * (len(more) - 4) + b"\r\n\r\n" + b"y" * 10
    sent, known = request(path="/jobs/solve", body=body), request(body=b"{}")
    at = sent.index(b"\r\n\r\n") + 3
    engine = FakeEngine(answer=lambda job: result(job.limits.name.encode()))
    async with web_service(engine=engine) as service, service.raw() as caller:
        caller.send(known)
        assert (await caller.answer()).body == b"primes"
        for data in (sent[:at], sent[at:] + more, known):
            made[0].data_received(data)
            await settle()
        assert [(await caller.answer()).body for _ in range(2)] == [b"solve", b'{"status":"live"}']


@pytest.mark.parametrize("seed", range(40))
async def test_requests_in_any_pieces_are_all_answered(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    made = made_connections(monkeypatch)
    remembered: list[bytes] = []
    remember = RequestHeads.remember

    def note(heads: RequestHeads, sent: bytes, address: str | None, head: RequestHead) -> None:
        remembered.append(sent)
        remember(heads, sent, address, head)

    monkeypatch.setattr(RequestHeads, "remember", note)
    expected, pieces = [], []
    for number in range(20):
        body = b'{"limit": %d}' % (10 + number)
        sent, answer = chance.choice(
            [
                (request(body=body), body),
                (request(body=body), body),
                (request("Accept: */*", body=body + b"\r\n\r\n"), body + b"\r\n\r\n"),
                (request(body=b""), b""),
                (chunked(body), body),
                (b"\r\n" + request(body=body), body),
                (b"\r\n\r\n" + request("Accept: a/b", body=body), body),
                (b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n", None),
            ]
        )
        expected.append(answer)
        pieces += cut(sent, chance)
    async with web_service(engine=FakeEngine(answer=echo)) as service, service.raw() as caller:
        await eventually("the caller is connected", lambda: made)
        (connection,) = made
        for piece in joined(pieces, chance):
            connection.data_received(piece)
            if chance.random() < 0.8:
                await settle()
        answers = [await caller.answer() for _ in expected]
    assert [answer.status for answer in answers] == [200] * len(expected)
    assert all(sent.lstrip().startswith(b"POST ") and sent.endswith(b"\r\n\r\n") for sent in remembered)
    assert [answer.body for answer, body in zip(answers, expected, strict=True) if body is not None] == [
        body for body in expected if body is not None
    ]


def echo(job: Job) -> Outcome:
    return result(body_of(job))


def chunked(body: bytes) -> bytes:
    head = b"POST /jobs/primes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return b"%b%x\r\n%b\r\n0\r\n\r\n" % (head, len(body), body)


def cut(sent: bytes, chance: random.Random) -> list[bytes]:
    """Return the request whole, usually, or in two pieces, often cut at the end of its head."""
    if chance.random() < 0.7:
        return [sent]
    at = chance.choice([sent.find(b"\r\n\r\n") + 4, chance.randrange(1, len(sent))])
    return [piece for piece in (sent[:at], sent[at:]) if piece]


def joined(pieces: list[bytes], chance: random.Random) -> Iterator[bytes]:
    """Yield the pieces, some of them joined with the next."""
    together = b""
    for piece in pieces:
        together += piece
        if chance.random() < 0.85:
            yield together
            together = b""
    if together:
        yield together


async def settle() -> None:
    """Let the loop process what has arrived."""
    for _ in range(20):
        await asyncio.sleep(0)


def _unchanging(answer: Answer) -> Iterator[tuple[str, str]]:
    for name, value in answer.headers.items():
        if name == "Content-Length" and "Job-Id" in answer.headers and answer.status != 200:
            continue  # the problem contains the job id
        yield name, "" if name in CHANGING else value
