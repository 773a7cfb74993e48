"""Large bodies and results travel in shared memory, arrive whole, and are released, even if they are abandoned."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, closing
from io import BytesIO
from typing import Any

import pytest
import uvloop

from offload.core.job import Job
from offload.core.outcome import Outcome, Reason
from offload.web.server.sending import _STEP_BYTES, _send_directly
from offload.wire.shared_bytes import LARGE_BYTES, SharedBytes
from tests.support.fake_engine import FakeEngine, body_of, result
from tests.support.raw_http import RawConnection
from tests.support.shared_memory import made, shared_memory
from tests.support.web_service import WebService, eventually, web_service

SIZE = 5 * LARGE_BYTES + 3
DATA = random.Random(1).randbytes(SIZE)


def head(size: int | None = None, *headers: str) -> bytes:
    length = "Transfer-Encoding: chunked" if size is None else f"Content-Length: {size}"
    return "\r\n".join(["POST /jobs/resize HTTP/1.1", "Host: x", length, *headers, "", ""]).encode()


def served(engine: FakeEngine | None = None, body_timeout_s: float = 30.0) -> AbstractAsyncContextManager[WebService]:
    """Serve with limits that no test reaches."""
    return web_service(engine=engine, queue_bytes=1 << 30, max_body_bytes=1 << 28, body_timeout_s=body_timeout_s)


def large_result(data: bytes = DATA) -> Outcome:
    return Outcome(
        reason=Reason.SUCCEEDED, body=made(data, is_final=True), media_type="application/octet-stream", run_s=0.001
    )


def echoing() -> FakeEngine:
    return FakeEngine(answer=lambda job: large_result(body_of(job)))


async def everything_is_released(service: WebService) -> None:
    traffic = service.scheduler.traffic
    await eventually("no bytes are arriving or leaving", lambda: traffic.size_bytes == 0)
    await eventually("all shared memory is released", lambda: shared_memory() == [])


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_large_body_reaches_the_engine_in_shared_memory(is_chunked: bool) -> None:
    kinds = []

    def answer(job: Job) -> Outcome:
        kinds.append(type(job.request.body))
        assert job.size_bytes == SIZE
        return result(b"true" if body_of(job) == DATA else b"false")

    async with served(FakeEngine(answer=answer)) as service, service.raw() as caller:
        for _ in range(2):
            if is_chunked:
                caller.send(head())
                for start in range(0, SIZE, 70_001):
                    chunk = DATA[start : start + 70_001]
                    caller.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                caller.send(b"0\r\n\r\n")
            else:
                caller.send(head(SIZE) + DATA)
            assert (await caller.answer()).body == b"true"
        assert kinds == [SharedBytes, SharedBytes]
        await everything_is_released(service)


async def test_a_body_of_exactly_the_threshold_stays_bytes() -> None:
    def answer(job: Job) -> Outcome:
        return result(str(type(job.request.body) is bytes).lower().encode())

    async with served(FakeEngine(answer=answer)) as service:
        assert (await service.post("resize", data=BytesIO(DATA[:LARGE_BYTES]))).body == b"true"
        assert (await service.post("resize", data=BytesIO(DATA[: LARGE_BYTES + 1]))).body == b"false"


async def test_without_shared_memory_a_large_body_stays_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "memfd_create", fail)
    engine = FakeEngine(answer=lambda job: result(str(job.request.body == DATA).lower().encode()))
    async with served(engine) as service:
        assert (await service.post("resize", data=BytesIO(DATA))).body == b"true"


async def test_large_and_small_results_keep_their_order_on_a_connection() -> None:
    """With pipelining, bytes that bypass the transport must not overtake bytes in it."""
    async with served() as service, service.raw() as caller:
        for _ in range(6):
            caller.send(head(0))
        for number in range(6):
            running = await service.engine.next_started()
            service.engine.finish(running, large_result() if number % 2 else result(b"%d" % number))
            answer = await caller.answer()
            assert answer.body == (DATA if number % 2 else b"%d" % number)
            assert answer.headers["Content-Type"] == ("application/octet-stream" if number % 2 else "application/json")
        await everything_is_released(service)


async def test_a_slow_caller_receives_its_large_result_whole() -> None:
    """The caller reads less at a time than the system buffers."""
    data = random.Random(2).randbytes(16 << 20)
    async with served(FakeEngine(answer=lambda job: large_result(data))) as service:
        async with service.client.post("/jobs/resize") as response:
            received = b""
            async for chunk in response.content.iter_chunked(50_000):
                received += chunk
                await asyncio.sleep(0)
        assert received == data
        await everything_is_released(service)


class Transport(asyncio.Transport):
    """A transport that holds bytes which the socket has not accepted, or that is closing."""

    def __init__(self, *, unsent_bytes: int = 0, is_closing: bool = False) -> None:
        super().__init__()
        self._unsent_bytes = unsent_bytes
        self._is_closing = is_closing

    def is_closing(self) -> bool:
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        return self._unsent_bytes

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        raise AssertionError("nothing may be sent on the socket")


def test_nothing_overtakes_bytes_in_the_transport() -> None:
    with closing(made(DATA)) as memory:
        assert _send_directly(Transport(unsent_bytes=1), memory, 10) == 0


def test_nothing_is_sent_on_a_closing_connection() -> None:
    """Its descriptor number may belong to another connection by then."""
    with closing(made(DATA)) as memory, pytest.raises(ConnectionError):
        _send_directly(Transport(is_closing=True), memory, 10)


async def test_without_sendfile_a_result_is_copied_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "sendfile", fail)
    async with served(echoing()) as service:
        assert (await service.post("resize", data=BytesIO(DATA))).body == DATA
        await everything_is_released(service)


async def test_a_large_result_is_sent_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    send = os.sendfile

    def note(out: int, source: int, offset: int, count: int) -> int:
        asked.append(count)
        return send(out, source, offset, count)

    monkeypatch.setattr(os, "sendfile", note)
    async with served(echoing()) as service:
        assert (await service.post("resize", data=BytesIO(DATA))).body == DATA
        assert asked
        assert max(asked) <= _STEP_BYTES


async def begin_result(service: WebService, caller: RawConnection, size: int) -> None:
    """Finish a job whose caller does not read: the system buffers only part of the result."""
    caller.send(head(0))
    service.engine.finish(await service.engine.next_started(), large_result(bytes(size)))
    await eventually("the result is being sent", lambda: service.scheduler.traffic.leaving_bytes == size)


async def test_a_result_is_released_if_its_caller_disconnects_half_way() -> None:
    async with served() as service:
        for _ in range(3):
            async with service.raw() as caller:
                await begin_result(service, caller, 64 << 20)
                assert len(shared_memory()) == 1
            await everything_is_released(service)


async def test_a_caller_that_stops_reading_a_large_result_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offload.web.server.connection._STALLED_S", 0.05)
    async with served() as service, service.raw() as caller:
        await begin_result(service, caller, 64 << 20)
        await everything_is_released(service)


async def test_a_result_is_released_if_its_caller_is_already_gone() -> None:
    """The connection ends after the job and before its handler continues."""
    async with served() as service, service.raw() as caller:
        caller.send(head(SIZE) + DATA)
        running = await service.engine.next_started()
        service.engine.finish(running, large_result())
        for handler in asyncio.all_tasks():
            if "RequestHandler.start" in repr(handler.get_coro()):
                handler.cancel()
        await everything_is_released(service)


def hang_up(caller: RawConnection) -> None:
    caller.hang_up()


def break_framing(caller: RawConnection) -> None:
    caller.send(b"zzz\r\n")


def go_over_the_limit(caller: RawConnection) -> None:
    caller.send(b"%x\r\n%b\r\n" % (2 * SIZE, bytes(2 * SIZE)))


@pytest.mark.parametrize("abandon", [hang_up, break_framing, go_over_the_limit])
async def test_an_abandoned_body_is_released(abandon: Callable[[RawConnection], None]) -> None:
    async with web_service(queue_bytes=1 << 30, max_body_bytes=2 * SIZE) as service, service.raw() as caller:
        caller.send(head() + b"%x\r\n%b\r\n" % (SIZE, DATA))
        traffic = service.scheduler.traffic
        await eventually("the body has arrived", lambda: traffic.arriving_bytes == SIZE)
        assert len(shared_memory()) == 1
        abandon(caller)
        await everything_is_released(service)
        assert service.counts.submitted == 0


async def test_a_body_that_times_out_is_released() -> None:
    async with served(body_timeout_s=0.2) as service, service.raw() as caller:
        caller.send(head(2 * SIZE) + DATA)
        assert (await caller.answer()).slug == "body-timeout"
        await everything_is_released(service)


async def test_a_body_without_room_is_released() -> None:
    async with web_service(queue_bytes=2 * SIZE, max_body_bytes=2 * SIZE) as service, service.raw() as first:
        first.send(head(SIZE + 1) + DATA)
        await eventually("the body has arrived", lambda: service.scheduler.traffic.arriving_bytes == SIZE)
        async with service.raw() as second:
            second.send(head() + b"%x\r\n%b\r\n" % (SIZE + 1, DATA + b"x"))
            assert (await second.answer()).slug == "overloaded"
        await eventually("one body is left", lambda: len(shared_memory()) == 1)
        assert service.scheduler.traffic.arriving_bytes == SIZE


async def test_a_large_body_counts_while_it_is_queued() -> None:
    async with served() as service, service.raw() as busy, service.raw() as waiting:
        busy.send(head(0))
        running = await service.engine.next_started()
        waiting.send(head(SIZE) + DATA)
        await eventually("the job is queued", lambda: service.scheduler.queued == 1)
        assert service.scheduler.queue.size_bytes == SIZE
        assert service.scheduler.traffic.arriving_bytes == 0
        service.engine.finish(running, result())
        service.engine.finish(await service.engine.next_started(), result())
        assert (await waiting.answer()).status == 200
        assert service.scheduler.queue.size_bytes == 0
        await everything_is_released(service)


@pytest.mark.parametrize(
    "check",
    [
        test_large_and_small_results_keep_their_order_on_a_connection,
        test_a_slow_caller_receives_its_large_result_whole,
        test_a_result_is_released_if_its_caller_disconnects_half_way,
        test_a_result_is_released_if_its_caller_is_already_gone,
    ],
)
def test_the_other_event_loop_behaves_the_same(check: Callable[[], Coroutine[None, None, None]]) -> None:
    """The loops' transports differ in how they pause and in what they report as unsent."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(check())
