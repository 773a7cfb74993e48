"""The driver's slots: what they send to the service, and messages that cross."""

from __future__ import annotations

from typing import Any

import pytest

from offload.engines.cluster.slots import ClusterSlots


class Service:
    """Records the messages that it receives."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, head: list[Any], *body: bytes) -> None:
        self.sent.append((head, *body) if body else head)


@pytest.fixture
def service() -> Service:
    return Service()


def answer(number: int, **more: Any) -> tuple[Any, ...]:
    values = {
        "status": 0,
        "media_type": "text/plain",
        "body": b"x",
        "run_ns": 5,
        "traceback": "",
        "pid": 7,
        "rss": 9,
        "is_leaving": False,
    }
    return (number, *(values | more).values())


def test_slots_get_the_lowest_free_number_up_to_the_limit(service: Service) -> None:
    slots = ClusterSlots(2, service.send)
    assert [slots.add(), slots.add(), slots.add()] == [0, 1, None]
    slots.remove(0, "left")
    assert slots.add() == 0


def test_a_job_is_accepted_only_for_the_present_generation(service: Service) -> None:
    slots = ClusterSlots(1, service.send)
    slots.add()
    assert not slots.accept(0, 1, 5)
    slots.mark_ready(0)
    slots.mark_lost(0, "died")
    slots.mark_ready(0)
    assert (slots.accept(0, 1, 5), slots.accept(0, 2, 5), slots.accept(3, 1, 5)) == (False, True, False)
    assert service.sent == [["ready", 0, 1], ["lost", 0, 0, True, "died", ""], ["ready", 0, 2]]


def test_generations_continue_when_a_slot_is_added_again(service: Service) -> None:
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


def test_an_answer_is_sent_once_and_frees_the_slot(service: Service) -> None:
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
def test_an_invalid_answer_is_reported(service: Service, values: Any) -> None:
    slots = ClusterSlots(1, service.send)
    slots.add()
    slots.mark_ready(0)
    slots.accept(0, 1, 5)
    slots.finish(0, 5, values)
    assert service.sent[1:] == [["invalid-answer", 0, 5]]
    assert slots.is_idle(0)


def test_lone_surrogates_are_replaced(service: Service) -> None:
    slots = ClusterSlots(1, service.send)
    slots.add()
    slots.mark_ready(0)
    slots.accept(0, 1, 5)
    slots.finish(0, 5, answer(5, traceback="a\udc80b"))
    assert service.sent[1][0][6] == "a?b"


def test_a_worker_that_cannot_load_the_tasks_is_lost(service: Service) -> None:
    slots = ClusterSlots(1, service.send)
    slots.add()
    slots.mark_ready(0)
    slots.accept(0, 1, 5)
    assert slots.finish(0, 5, answer(5, status=-1, body=b"no module")) == "no module"
    assert service.sent[1:] == [["lost", 0, 5, False, "could not load the tasks: no module", ""]]
