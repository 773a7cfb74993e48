"""The slots as the driver has them: who is told what, and what crosses on the way."""

from __future__ import annotations

from typing import Any

import pytest

from offload.engines.cluster.slots import ClusterSlots


class Service:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, head: list[Any], *body: bytes) -> None:
        self.sent.append((head, *body) if body else head)


@pytest.fixture
def service() -> Service:
    return Service()


def answer(number: int, **more: Any) -> tuple[Any, ...]:
    values = {"status": 0, "media_type": "text/plain", "body": b"x", "run_ns": 5, "traceback": "", "pid": 7, "rss": 9}
    return (number, *(values | more).values())


def test_slots_get_the_first_free_number_up_to_the_limit(service: Service) -> None:
    slots = ClusterSlots(2, service.send)
    assert [slots.add(), slots.add(), slots.add()] == [0, 1, None]
    slots.remove(0, "left")
    assert slots.add() == 0


def test_a_job_is_taken_for_the_present_turn_of_a_slot_only(service: Service) -> None:
    slots = ClusterSlots(1, service.send)
    slots.add()
    assert not slots.accept(0, 1, 5)
    slots.mark_ready(0)
    slots.mark_lost(0, "died")
    slots.mark_ready(0)
    assert (slots.accept(0, 1, 5), slots.accept(0, 2, 5), slots.accept(3, 1, 5)) == (False, True, False)
    assert service.sent == [["ready", 0, 1], ["lost", 0, 0, True, "died", ""], ["ready", 0, 2]]


def test_the_turns_of_a_slot_go_on_when_it_comes_back(service: Service) -> None:
    slots = ClusterSlots(1, service.send)
    for _ in range(2):
        slots.add()
        slots.mark_ready(0)
        slots.remove(0, "left", begun=False)
    ready = ["ready", 0, 1]
    assert service.sent == [
        ready,
        gone := ["lost", 0, 0, False, "left", ""],
        ["removed", 0],
        [*ready[:2], 2],
        gone,
        ["removed", 0],
    ]


def test_an_answer_is_told_once_and_frees_the_slot(service: Service) -> None:
    slots = ClusterSlots(1, service.send)
    slots.add()
    slots.mark_ready(0)
    assert slots.is_idle(0)
    assert slots.accept(0, 1, 5)
    assert not slots.is_idle(0)
    assert slots.finish(0, 5, answer(5)) == slots.finish(0, 5, answer(5)) == ""
    assert service.sent[1:] == [(["finished", 0, 5, 0, "text/plain", 5, "", 7, 9], b"x")]
    assert slots.is_idle(0)


@pytest.mark.parametrize(
    "values", [None, (), answer(6), answer(5, pid="7"), answer(5, status=99), answer(5, run_ns=2**70)]
)
def test_what_is_no_answer_is_told_as_such(service: Service, values: Any) -> None:
    slots = ClusterSlots(1, service.send)
    slots.add()
    slots.mark_ready(0)
    slots.accept(0, 1, 5)
    slots.finish(0, 5, values)
    assert service.sent[1:] == [["invalid-answer", 0, 5]]
    assert slots.is_idle(0)


def test_a_text_that_is_no_unicode_is_told_as_far_as_it_is(service: Service) -> None:
    slots = ClusterSlots(1, service.send)
    slots.add()
    slots.mark_ready(0)
    slots.accept(0, 1, 5)
    slots.finish(0, 5, answer(5, traceback="a\udc80b"))
    assert service.sent[1][0][6] == "a?b"


def test_a_worker_that_cannot_load_the_tasks_is_none(service: Service) -> None:
    slots = ClusterSlots(1, service.send)
    slots.add()
    slots.mark_ready(0)
    slots.accept(0, 1, 5)
    assert slots.finish(0, 5, answer(5, status=-1, body=b"no module")) == "no module"
    assert service.sent[1:] == [["lost", 0, 5, False, "could not load the tasks: no module", ""]]
