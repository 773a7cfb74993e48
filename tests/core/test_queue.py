"""The order in which waiting jobs are served, the count of what waits, and the limits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from offload.core.job import Job
from offload.core.queue import JobQueue
from tests.core.stage import new_job


def queue(limit: int = 100, limit_bytes: int = 1000) -> JobQueue:
    return JobQueue(limit=limit, limit_bytes=limit_bytes)


def pushed(waiting: JobQueue, **fields: int) -> Job:
    job = new_job(**fields)  # type: ignore[arg-type]  # only whole-numbered fields are given here
    waiting.push(job)
    return job


def emptied(waiting: JobQueue) -> Iterator[Job]:
    while (job := waiting.pop()) is not None:
        yield job


def test_first_in_first_out_within_one_urgency() -> None:
    waiting = queue()
    jobs = [pushed(waiting) for _ in range(3)]
    assert list(emptied(waiting)) == jobs


def test_the_more_urgent_goes_first_whenever_it_came() -> None:
    waiting = queue()
    late, usual, first = (pushed(waiting, urgency=urgency) for urgency in (7, 3, 0))
    assert list(emptied(waiting)) == [first, usual, late]


def test_a_job_that_comes_back_is_served_before_all_others() -> None:
    waiting = queue()
    urgent = pushed(waiting, urgency=0)
    back, back_later = new_job(urgency=7), new_job(urgency=0)
    waiting.push_back(back)
    waiting.push_back(back_later)
    assert list(waiting) == [back, back_later, urgent]
    assert list(emptied(waiting)) == [back, back_later, urgent]


def test_an_empty_queue_has_nobody_to_serve() -> None:
    assert queue().pop() is None


def test_a_job_is_taken_out_of_the_middle() -> None:
    waiting = queue()
    first, middle, last = (pushed(waiting, size_bytes=10) for _ in range(3))
    waiting.remove(middle)
    assert middle not in waiting
    assert (len(waiting), waiting.size_bytes) == (2, 20)
    assert list(emptied(waiting)) == [first, last]


def test_a_job_that_came_back_can_be_taken_out_too() -> None:
    waiting = queue()
    job = new_job()
    waiting.push_back(job)
    assert job in waiting
    waiting.remove(job)
    assert (job in waiting, len(waiting)) == (False, 0)


def test_taking_out_a_job_that_does_not_wait_is_an_error_and_changes_nothing() -> None:
    waiting = queue()
    pushed(waiting)
    with pytest.raises(KeyError):
        waiting.remove(new_job())
    assert len(waiting) == 1


def test_there_is_room_up_to_the_limit_of_jobs() -> None:
    waiting = queue(limit=2)
    pushed(waiting)
    assert waiting.has_room(0)
    pushed(waiting)
    assert not waiting.has_room(0)


def test_there_is_room_up_to_the_limit_of_bytes() -> None:
    waiting = queue(limit_bytes=100)
    pushed(waiting, size_bytes=60)
    assert waiting.has_room(40)
    assert not waiting.has_room(41)


def test_a_job_larger_than_the_whole_queue_may_wait_alone() -> None:
    waiting = queue(limit_bytes=100)
    assert waiting.has_room(101)
    pushed(waiting, size_bytes=101)
    assert not waiting.has_room(1)


def test_no_limit_of_jobs_lets_one_wait_where_none_may() -> None:
    assert not queue(limit=0).has_room(1)


def test_what_is_expected_of_the_waiting_adds_up_and_ends_at_nothing() -> None:
    """A sum of fractions never comes back to zero by itself; an empty queue says zero outright."""
    waiting = queue()
    for expected_s in (0.1, 0.2, 0.3):
        job = new_job()
        job.expected_s = expected_s
        waiting.push(job)
    assert waiting.expected_s == pytest.approx(0.6)
    assert len(list(emptied(waiting))) == 3
    assert waiting.expected_s == 0.0
