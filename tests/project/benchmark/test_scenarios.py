"""A short run of the scenarios on the service itself: each measures what it says, and hands in what the goals know."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest

from tests.benchmark import goals, idle, payload
from tests.benchmark.echo_load import EchoCaller, EchoError, EchoPlan
from tests.benchmark.figures import Spread
from tests.benchmark.load import HOST
from tests.benchmark.options import Options
from tests.benchmark.systems import OURS
from tests.project.benchmark.test_load import answering

SHORT = Options(rounds=1, seconds=0.1, systems=(OURS,))


def test_bodies_come_back_and_the_peak_is_told_in_bodies() -> None:
    made = payload.run(SHORT, sizes_mb=(1,))
    (measured,) = made.data["1_mb"]["offload"]
    assert measured["echo"]["answers"] >= 2
    assert measured["live"]["count"] >= 1
    assert "### Bodies of 1 MB" in made.markdown()
    assert orjson.dumps(made.data)


def test_standing_still_is_measured_of_the_whole_tree() -> None:
    made = idle.run(SHORT)
    (measured,) = made.data["offload"]
    assert measured["processes"] >= 3
    assert measured["pss_bytes"] > 10_000_000
    assert set(made.figures) == {"idle_pss_mib", "start_s"}


def echo_of(port: int, body_bytes: int) -> None:
    caller = EchoCaller(EchoPlan(port=port, path="/", body_bytes=body_bytes, seconds=0.1))
    try:
        caller.run()
    finally:
        caller.close()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n{}", "is no echo: HTTP/1.1 503"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}x", "is no echo"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "another body came back"),
        (b"", "the connection ended before an answer"),
    ],
)
async def test_what_is_no_echo_is_told(answer: bytes, sentence: str) -> None:
    async with answering(answer) as port:
        with pytest.raises(EchoError, match=sentence):
            await asyncio.to_thread(echo_of, port, 2)


@contextmanager
def resetting_after(*answers: bytes) -> Iterator[int]:
    """A server that reads a head, gives these bytes one by one and resets the connection; yields its port."""
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)
                for answer in answers:
                    connection.sendall(answer)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        server = threading.Thread(target=serve)
        server.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.join()


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ((), "the connection ended before an answer"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"{"), "the connection ended within an answer"),
    ],
)
def test_a_connection_that_is_reset_has_ended(answers: tuple[bytes, ...], sentence: str) -> None:
    with resetting_after(*answers) as port, pytest.raises(EchoError, match=sentence):
        echo_of(port, 2)


def test_each_goal_is_on_a_figure_that_is_told_apart() -> None:
    assert len({(goal.scenario, goal.figure) for goal in goals.GOALS}) == len(goals.GOALS)


@pytest.mark.parametrize(
    ("bound", "met"), [(goals.Bound.AT_MOST, [True, True, False]), (goals.Bound.AT_LEAST, [False, True, True])]
)
def test_a_goal_is_met_on_its_side_of_the_limit(bound: goals.Bound, met: list[bool]) -> None:
    goal = goals.Goal(scenario="jobs", figure="x", what="x", bound=bound, limit=1.0)
    assert [goal.is_met(measured) for measured in (0.9, 1.0, 1.1)] == met


def test_the_table_of_goals_says_what_was_not_measured() -> None:
    found = goals.verdicts(
        {
            "idle": {"start_s": Spread(median=0.5, lowest=0.4, highest=0.7)},
            "jobs": {"jobs_per_s_to_bare": Spread(median=0.9, lowest=0.9, highest=0.9)},
        }
    )
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:5]]
        for line in goals.table(found).splitlines()
    }
    assert rows["seconds from start to ready, example tasks"] == ["at most 0.6", "0.50 (0.40 to 0.70)", "yes"]
    assert rows["no-op jobs a second, to a bare handler's"] == ["at least 0.95", "0.90 (0.90 to 0.90)", "no"]
    assert rows["CPU of a no-op job, to mosec's"] == ["at most 0.5", "–", "not measured"]
    assert orjson.dumps(found)
