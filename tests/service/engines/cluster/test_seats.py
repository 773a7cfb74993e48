"""The slots as the driver has them: who is told what, and what crosses on the way."""

from __future__ import annotations

from typing import Any

import pytest

from offload.engines.cluster.seats import Seats


class Service:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def tell(self, head: list[Any], *body: bytes) -> None:
        self.told.append((head, *body) if body else head)


@pytest.fixture
def service() -> Service:
    return Service()


def answer(number: int, **more: Any) -> tuple[Any, ...]:
    values = {"status": 0, "media_type": "text/plain", "body": b"x", "run_ns": 5, "traceback": "", "pid": 7, "rss": 9}
    return (number, *(values | more).values())


def test_slots_get_the_first_free_number_up_to_the_limit(service: Service) -> None:
    seats = Seats(2, service.tell)
    assert [seats.add(), seats.add(), seats.add()] == [0, 1, None]
    seats.remove(0, "left")
    assert seats.add() == 0


def test_a_job_is_taken_for_the_present_turn_of_a_slot_only(service: Service) -> None:
    seats = Seats(1, service.tell)
    seats.add()
    assert not seats.take(0, 1, 5)
    seats.ready(0)
    seats.lose(0, "died")
    seats.ready(0)
    assert (seats.take(0, 1, 5), seats.take(0, 2, 5), seats.take(3, 1, 5)) == (False, True, False)
    assert service.told == [["ready", 0, 1], ["gone", 0, 0, True, "died", ""], ["ready", 0, 2]]


def test_the_turns_of_a_slot_go_on_when_it_comes_back(service: Service) -> None:
    seats = Seats(1, service.tell)
    for _ in range(2):
        seats.add()
        seats.ready(0)
        seats.remove(0, "left", begun=False)
    ready = ["ready", 0, 1]
    assert service.told == [
        ready,
        gone := ["gone", 0, 0, False, "left", ""],
        ["removed", 0],
        [*ready[:2], 2],
        gone,
        ["removed", 0],
    ]


def test_an_answer_is_told_once_and_frees_the_slot(service: Service) -> None:
    seats = Seats(1, service.tell)
    seats.add()
    seats.ready(0)
    assert seats.is_idle(0)
    assert seats.take(0, 1, 5)
    assert not seats.is_idle(0)
    assert seats.answer(0, 5, answer(5)) == seats.answer(0, 5, answer(5)) == ""
    assert service.told[1:] == [(["answer", 0, 5, 0, "text/plain", 5, "", 7, 9], b"x")]
    assert seats.is_idle(0)


@pytest.mark.parametrize(
    "values", [None, (), answer(6), answer(5, pid="7"), answer(5, status=99), answer(5, run_ns=2**70)]
)
def test_what_is_no_answer_is_told_as_such(service: Service, values: Any) -> None:
    seats = Seats(1, service.tell)
    seats.add()
    seats.ready(0)
    seats.take(0, 1, 5)
    seats.answer(0, 5, values)
    assert service.told[1:] == [["garbage", 0, 5]]
    assert seats.is_idle(0)


def test_a_text_that_is_no_unicode_is_told_as_far_as_it_is(service: Service) -> None:
    seats = Seats(1, service.tell)
    seats.add()
    seats.ready(0)
    seats.take(0, 1, 5)
    seats.answer(0, 5, answer(5, traceback="a\udc80b"))
    assert service.told[1][0][6] == "a?b"


def test_a_worker_that_cannot_load_the_tasks_is_none(service: Service) -> None:
    seats = Seats(1, service.tell)
    seats.add()
    seats.ready(0)
    seats.take(0, 1, 5)
    assert seats.answer(0, 5, answer(5, status=-1, body=b"no module")) == "no module"
    assert service.told[1:] == [["gone", 0, 5, False, "could not load the tasks: no module", ""]]
