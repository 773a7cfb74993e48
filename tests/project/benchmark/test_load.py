"""The load generator: what it sends, reads and counts, and that it ends."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import cycle

import pytest

from tests.benchmark.errors import BenchError
from tests.benchmark.load import schedules
from tests.benchmark.load.plan import HOST, Closed, Echo, LoadPlan, Open, Schedule
from tests.benchmark.load.result import LoadResult
from tests.benchmark.load.schedules import OpenLoad

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
OVERLOADED = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length:0\r\n\r\n"


@asynccontextmanager
async def answering(*answers: bytes, when: asyncio.Event | None = None) -> AsyncIterator[int]:
    """Yields the port of a server that gives these answers in a cycle, not before `when`; an empty one hangs up."""
    following = cycle(answers)
    handlers = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                if when is not None:
                    await when.wait()
                answer = next(following)
                if not answer:
                    break
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass  # the generator has hung up
        finally:
            writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        if when is not None:
            when.set()
        await asyncio.gather(*filter(None, handlers))


@contextmanager
def resetting_after(*parts: bytes) -> Iterator[int]:
    """Yields the port of a server that reads one byte of a request, sends these parts and resets the connection."""
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)
                for part in parts:
                    connection.sendall(part)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        server = threading.Thread(target=serve)
        server.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.join()


async def run(port: int, schedule: Schedule, seconds: float = 60.0) -> LoadResult:
    return await schedules.run(LoadPlan(port=port, path="/", schedule=schedule, seconds=seconds))


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    "schedule",
    [Closed(connections=3, pause_s=0.5), Open(rate_per_s=5.0, patience_s=1.0), Echo(body_bytes=10)],
    ids=["closed", "open", "echo"],
)
def test_a_plan_and_its_schedule_travel_as_json(schedule: Schedule) -> None:
    plan = LoadPlan(port=80, path="/x", schedule=schedule, body="{}", seconds=1.5)
    assert LoadPlan.from_json(plan.to_json()) == plan


def test_a_schedule_is_closed_unless_it_is_named() -> None:
    plan = LoadPlan.from_json('{"port": 80, "path": "/x", "connections": 2}')
    assert plan == LoadPlan(port=80, path="/x", schedule=Closed(connections=2))


async def test_a_result_travels_as_json() -> None:
    async with answering(OK) as port:
        result = await run(port, Closed(connections=1, max_requests=1))
    assert LoadResult.from_json(result.to_json()) == result


async def test_a_closed_load_stops_at_the_number_of_requests_and_counts_each_status() -> None:
    async with answering(OK, OK, OVERLOADED) as port:
        result = await run(port, Closed(connections=4, max_requests=30))
    assert result.statuses == {"200": 20, "503": 10}
    assert result.failures == {"503": 10}
    assert (result.sent, result.latency.count, result.served.count, result.rejected.count) == (30, 30, 20, 10)
    assert 0 < result.latency.p50_ms <= result.latency.p99_ms <= result.latency.max_ms


async def test_a_closed_load_stops_when_the_time_is_up() -> None:
    async with answering(OK) as port:
        result = await run(port, Closed(connections=2), seconds=0.05)
    assert result.failures == {}
    assert result.answers > 0


async def test_callers_may_pause_between_requests() -> None:
    async with answering(OK) as port:
        result = await run(port, Closed(connections=1, max_requests=3, pause_s=0.001))
    assert result.statuses == {"200": 3}


async def test_a_request_whose_connection_ends_is_lost() -> None:
    async with answering(OK, b"") as port:
        result = await run(port, Closed(connections=1))
    assert result.failures == {"lost": 1}
    assert result.answers == 1


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", OK + OK],
    ids=["no length", "malformed length", "two answers"],
)
async def test_an_answer_that_cannot_be_read_is_lost(answer: bytes) -> None:
    async with answering(answer) as port:
        result = await run(port, Closed(connections=2))
    assert result.failures == {"lost": 2}


async def test_a_server_that_does_not_listen_is_an_error() -> None:
    async with answering(OK) as port:
        pass
    with pytest.raises(OSError, match="Connect"):
        await run(port, Closed())


async def test_answers_after_an_open_load_do_not_count_as_served_in_time() -> None:
    may_answer = asyncio.Event()
    async with answering(OK, when=may_answer) as port:
        schedule = Open(rate_per_s=100, patience_s=600)
        load = OpenLoad(LoadPlan(port=port, path="/", schedule=schedule, seconds=0.1), schedule)
        running = asyncio.create_task(load.run())
        await wait_for(lambda: not load.is_sending)
        may_answer.set()
        result = await running
    assert result.sent == result.served.count == result.statuses["200"] > 0
    assert (result.served_in_time, result.served_in_time_per_s) == (0, 0.0)


@pytest.mark.parametrize("rate_per_s", [100, 0.1], ids=["often", "seldom"])
async def test_callers_of_an_open_load_hang_up_when_their_patience_ends(rate_per_s: float) -> None:
    async with answering(OK, when=asyncio.Event()) as port:
        result = await run(port, Open(rate_per_s=rate_per_s, patience_s=0.05), seconds=0.2)
    assert result.lost == result.sent > 0
    assert result.statuses == {}


async def test_an_open_load_keeps_connections_for_later_requests() -> None:
    async with answering(OK, OK, b"") as port:
        result = await run(port, Open(rate_per_s=200, patience_s=60), seconds=0.2)
    assert result.answers + result.lost == result.sent
    assert result.served_in_time <= result.answers == result.statuses["200"]


async def test_an_open_load_without_a_server_loses_every_request() -> None:
    async with answering(OK) as port:
        pass
    result = await run(port, Open(rate_per_s=100, patience_s=60), seconds=0.05)
    assert result.lost == result.sent > 0


async def test_the_first_echo_is_compared_and_the_later_ones_are_measured() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as port:
        result = await run(port, Echo(body_bytes=0, min_answers=3), seconds=0.0)
    assert (result.sent, result.statuses, result.latency.count) == (3, {"200": 3}, 3)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (OVERLOADED, "the answer is not an echo: status 503, 0 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}x", "the answer is not an echo: status 200, 3 bytes"),
        (OK, "the body that came back differs from the one sent"),
        (b"", "the connection ended before an answer"),
    ],
)
async def test_an_answer_that_is_not_an_echo_is_an_error(answer: bytes, sentence: str) -> None:
    async with answering(answer) as port:
        with pytest.raises(BenchError, match=sentence):
            await run(port, Echo(body_bytes=2))


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [((), "ended before an answer"), ((OK[:-2], OK[-2:-1]), "ended within an answer")],
    ids=["before", "within"],
)
async def test_a_reset_connection_is_reported_as_ended(parts: tuple[bytes, ...], sentence: str) -> None:
    with resetting_after(*parts) as port, pytest.raises(BenchError, match=sentence):
        await run(port, Echo(body_bytes=2))
