"""The load generator: what it reads, what it counts, and that it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmark.answers import AnswerShape, read_answer
from tests.benchmark.load import HOST, Load, LoadPlan
from tests.benchmark.open_load import OpenLoad, OpenPlan

Responder = Callable[[asyncio.StreamWriter], Awaitable[bool]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
OVERLOADED = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length:0\r\n\r\n"


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[int]:
    """A server that gives these answers by turns, and hangs up instead of an empty one; yields its port."""
    turns = count()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                answer = answers[next(turns) % len(answers)]
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


def test_a_whole_answer_has_its_status_and_length() -> None:
    assert read_answer(OK) == (200, len(OK))
    assert read_answer(OVERLOADED) == (503, len(OVERLOADED))


@pytest.mark.parametrize("end", range(len(OK)))
def test_an_answer_is_incomplete_until_its_last_byte(end: int) -> None:
    assert read_answer(OK[:end]) is None


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
def test_an_answer_whose_length_is_unknown_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"Content-Length|invalid literal"):
        read_answer(data)


@given(
    status=st.sampled_from([200, 503]), length=st.integers(0, 30), name=st.sampled_from(["a", "bb"]), cut=st.integers(0)
)
def test_an_answer_that_looks_like_the_last_one_is_read_alike(status: int, length: int, name: str, cut: int) -> None:
    """What is known by its shape is what reading the head again would have said."""
    known = AnswerShape()
    known.learn(OK)
    assert known.matches(OK)
    head = f"HTTP/1.1 {status} OK\r\n{'X: ' + name if length else 'Y: '}\r\nContent-Length: {length}\r\n\r\n"
    other = head.encode() + b"x" * length
    shape = AnswerShape()
    shape.learn(other)
    assert shape.matches(other)
    assert (shape.status, len(other)) == read_answer(other)
    for data in (other[: cut % (len(other) + 1)], OK):
        if shape.matches(data):
            assert read_answer(data) == (shape.status, len(data))


def test_a_longer_answer_cut_to_the_length_of_the_last_one_is_incomplete() -> None:
    shape = AnswerShape()
    shape.learn(OK)
    longer = OK.replace(b"Length: 2", b"Length: 9") + b"1234567"
    assert not shape.matches(longer[: len(OK)])


def test_a_plan_with_a_body_posts_it() -> None:
    request = LoadPlan(port=8080, path="/jobs/noop", body='{"x": "é"}').request()
    assert request.startswith(b"POST /jobs/noop HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n")
    assert b"\r\nContent-Length: 11\r\n" in request
    assert request.endswith('\r\n\r\n{"x": "é"}'.encode())


def test_a_plan_without_a_body_gets() -> None:
    assert LoadPlan(port=8080, path="/stats").request().startswith(b"GET /stats HTTP/1.1\r\n")


async def test_it_stops_at_the_number_of_requests_and_counts_each_status() -> None:
    async with answering(OK, OK, OVERLOADED) as port:
        result = await Load(LoadPlan(port=port, path="/", connections=4, seconds=60, max_requests=30)).run()
    assert result.statuses == {"200": 20, "503": 10}
    assert result.failures == {"503": 10}
    assert result.latency.count == result.answers == 30
    assert 0 < result.latency.p50_ms <= result.latency.p99_ms <= result.latency.max_ms


async def test_it_stops_when_the_time_is_over() -> None:
    async with answering(OK) as port:
        result = await Load(LoadPlan(port=port, path="/", connections=2, seconds=0.05)).run()
    assert result.failures == {}
    assert result.answers > 0


async def test_callers_may_pause_between_requests() -> None:
    async with answering(OK) as port:
        result = await Load(LoadPlan(port=port, path="/", connections=1, max_requests=3, pause_s=0.001)).run()
    assert result.statuses == {"200": 3}


async def test_a_request_whose_connection_ends_is_lost() -> None:
    async with answering(OK, b"") as port:
        result = await Load(LoadPlan(port=port, path="/", connections=1, seconds=60)).run()
    assert result.failures == {"lost": 1}
    assert result.answers == 1


async def test_an_answer_that_cannot_be_read_is_lost() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n\r\n") as port:
        result = await Load(LoadPlan(port=port, path="/", connections=2, seconds=60)).run()
    assert result.failures == {"lost": 2}


async def test_a_server_that_is_not_there_is_an_error() -> None:
    async with answering(OK) as port:
        pass
    with pytest.raises(OSError, match="Connect"):
        await Load(LoadPlan(port=port, path="/")).run()


@asynccontextmanager
async def answering_after(delay_s: float | None) -> AsyncIterator[int]:
    """A server that answers nobody before that much time is over, and nobody at all without one; yields its port."""
    may_answer = asyncio.Event()
    handlers = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await may_answer.wait()
                writer.write(OK)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass  # the generator has hung up
        finally:
            writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    timer = delay_s and asyncio.get_running_loop().call_later(delay_s, may_answer.set)
    async with server:
        yield server.sockets[0].getsockname()[1]
        if timer:
            timer.cancel()
        may_answer.set()
        await asyncio.gather(*(handler for handler in handlers if handler is not None))


async def test_what_a_queue_gives_back_after_the_load_is_not_what_was_done_during_it() -> None:
    async with answering_after(1.0) as port:
        plan = OpenPlan(port=port, path="/", body="", per_s=100, seconds=0.1, budget_s=30)
        result = await OpenLoad(plan).run()
    assert result.sent == result.good == result.statuses["200"] > 0
    assert (result.good_by_end, result.good_per_s) == (0, 0.0)


async def test_callers_of_an_open_loop_hang_up_when_their_budget_is_over() -> None:
    async with answering_after(None) as port:
        plan = OpenPlan(port=port, path="/", body="", per_s=100, seconds=0.1, budget_s=0.05)
        result = await OpenLoad(plan).run()
    assert result.given_up == result.sent > 0
    assert result.statuses == {}


async def test_an_answer_that_comes_too_late_is_none_however_seldom_something_is_sent() -> None:
    async with answering_after(0.5) as port:
        plan = OpenPlan(port=port, path="/", body="", per_s=0.1, seconds=1.0, budget_s=0.05)
        result = await OpenLoad(plan).run()
    assert (result.sent, result.given_up, result.good) == (1, 1, 0)
