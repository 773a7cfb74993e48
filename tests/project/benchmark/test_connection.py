"""The connection of the load generator: when an answer is complete."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmark.load.connection import Connection, read_head
from tests.benchmark.load.plan import LoadPlan, encode_request

pytestmark = pytest.mark.unit


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.is_aborted = True


class Events:
    def __init__(self) -> None:
        self.seen: list[tuple[int, int, bytes]] = []

    def on_answer(self, connection: Connection, now_ns: int) -> None:
        self.seen.append((connection.status, connection.body_bytes, b"".join(connection.body)))
        connection.body.clear()

    def on_closed(self, connection: Connection) -> None:
        pass


def answer(status: int, body: bytes, name: str = "Content-Length") -> bytes:
    return f"HTTP/1.1 {status} X\r\n{name}: {len(body)}\r\nX: y\r\n\r\n".encode() + body


@given(
    answers=st.lists(st.tuples(st.sampled_from([200, 503]), st.binary(max_size=30)), min_size=1, max_size=3),
    name=st.sampled_from(["Content-Length", "content-length"]),
    piece=st.integers(1, 80),
)
def test_answers_are_complete_with_their_last_byte(answers: list[tuple[int, bytes]], name: str, piece: int) -> None:
    events = Events()
    connection = Connection(b"request", events, keeps_body=True)
    connection.connection_made(Transport())
    for status, body in answers:
        connection.send(0)
        data = answer(status, body, name)
        for begin in range(0, len(data), piece):
            assert not connection.is_within_answer or begin
            connection.data_received(data[begin : begin + piece])
    assert events.seen == [(status, len(body), body) for status, body in answers]


def test_a_request_is_sent_as_soon_as_there_is_a_connection() -> None:
    connection, transport = Connection(b"request", Events()), Transport()
    connection.send(0)
    connection.connection_made(transport)
    connection.send(1)
    assert transport.written == [b"request", b"request"]


def test_a_caller_that_gave_up_before_it_was_connected_sends_nothing() -> None:
    connection, transport = Connection(b"request", Events()), Transport()
    connection.send(0)
    connection.abort()
    connection.connection_made(transport)
    assert (transport.is_aborted, transport.written) == (True, [])


def test_a_caller_hangs_up_on_an_answer_without_a_request() -> None:
    events, transport = Events(), Transport()
    connection = Connection(b"request", events)
    connection.connection_made(transport)
    connection.data_received(answer(200, b""))
    assert (transport.is_aborted, events.seen) == (True, [])


@pytest.mark.parametrize("data", [answer(200, b"")[:-4] + b"9" * 4, b"HTTP/1.1 200 OK\r\n"])
def test_an_incomplete_head_is_not_read(data: bytes) -> None:
    assert read_head(data) is None


def test_a_request_with_a_body_is_a_post() -> None:
    plan = LoadPlan(port=8080, path="/jobs/noop")
    assert encode_request(plan, b"{}", "A: b") == (
        b"POST /jobs/noop HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nA: b\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert encode_request(plan, None) == b"GET /jobs/noop HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"
