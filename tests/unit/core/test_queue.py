"""The order in which waiting jobs are served, their counts, and the limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from offload.core.job import Job
from offload.core.queue.job_queue import AGED_EVERY, AGED_S, JobQueue
from offload.core.queue.running_limits import RunningLimits
from offload.core.run_times import RunTimes
from tests.unit.core.stage import new_job


def queue(limit: int = 100, limit_bytes: int = 1000, *, run_times: RunTimes | None = None) -> JobQueue:
    return JobQueue(
        limit=limit, limit_bytes=limit_bytes, running_limits=RunningLimits(), run_times=run_times or RunTimes()
    )


def pushed(waiting: JobQueue, **fields: Any) -> Job:
    job = new_job(**fields)
    waiting.push(job)
    waiting.check_invariants()
    return job


def popped(waiting: JobQueue, now: float = 0.0) -> Job | None:
    job = waiting.first(now)
    if job is not None:
        waiting.take_turn(job)
        waiting.check_invariants()
    return job


def emptied(waiting: JobQueue, now: float = 0.0) -> Iterator[Job]:
    while (job := popped(waiting, now)) is not None:
        yield job


def test_a_returned_job_is_served_before_all_others() -> None:
    waiting = queue()
    urgent = pushed(waiting, urgency=0)
    back, back_later = new_job(urgency=7), new_job(urgency=0)
    waiting.push_back(back)
    waiting.push_back(back_later)
    assert list(waiting) == [back, back_later, urgent]
    assert list(emptied(waiting)) == [back, back_later, urgent]


def test_an_empty_queue_has_no_next_job() -> None:
    assert queue().first(0.0) is None


def test_a_job_can_be_removed_from_the_middle() -> None:
    waiting = queue()
    first, middle, last = (pushed(waiting, size_bytes=10) for _ in range(3))
    waiting.remove(middle)
    assert middle not in waiting
    assert (len(waiting), waiting.size_bytes) == (2, 20)
    assert list(emptied(waiting)) == [first, last]


def test_a_returned_job_can_be_removed() -> None:
    waiting = queue()
    job = new_job()
    waiting.push_back(job)
    assert job in waiting
    waiting.remove(job)
    assert (job in waiting, len(waiting)) == (False, 0)


def test_removing_a_job_that_does_not_wait_raises_and_changes_nothing() -> None:
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


def test_a_limit_of_zero_has_no_room() -> None:
    assert not queue(limit=0).has_room(1)


def test_reading_the_next_job_changes_nothing() -> None:
    waiting = queue()
    jobs = [pushed(waiting, client=client) for client in "abab"]
    firsts = [waiting.first(0.0) for _ in range(10)]
    assert set(firsts) == {firsts[0]}
    assert len(waiting) == len(jobs)


# Aging


def test_an_aged_job_is_served_under_a_steady_stream_of_urgent_ones() -> None:
    """Once it is aged, it is served as every eighth job; the other seven are urgent ones."""
    waiting = queue()
    old = pushed(waiting, urgency=7, now=0.0)
    served = []
    for now in range(40):
        pushed(waiting, urgency=0, now=float(now))
        served.append(popped(waiting, float(now)))
    position = served.index(old)
    assert AGED_S < position <= AGED_S + AGED_EVERY


def test_several_urgencies_with_aged_jobs_take_turns() -> None:
    waiting = queue(limit=1000)
    for urgency in (5, 6, 7):
        for _ in range(100):
            pushed(waiting, urgency=urgency, now=0.0)
    for _ in range(100):
        pushed(waiting, urgency=0, now=100.0)
    served = [popped(waiting, 100.0) for _ in range(6 * AGED_EVERY)]
    assert Counter(job.urgency for job in served if job) == {0: 6 * (AGED_EVERY - 1), 5: 2, 6: 2, 7: 2}


def test_a_job_that_is_not_aged_waits_for_all_more_urgent_ones() -> None:
    waiting = queue()
    later = pushed(waiting, urgency=4, now=0.0)
    urgent = [pushed(waiting, urgency=3, now=0.0) for _ in range(3 * AGED_EVERY)]
    assert list(emptied(waiting, AGED_S)) == [*urgent, later]


# Displacing


@pytest.mark.parametrize(("urgency", "goes"), [(0, "7 newest"), (6, "7 newest"), (7, None)])
def test_the_newest_of_the_least_urgent_is_displaced(urgency: int, goes: str | None) -> None:
    waiting = queue(limit=3)
    jobs = {"7 oldest": pushed(waiting, urgency=7), "7 newest": pushed(waiting, urgency=7)}
    jobs["3"] = pushed(waiting, urgency=3)
    found = waiting.displaceable(urgency=urgency, client="", size_bytes=0)
    assert found is (None if goes is None else jobs[goes])


def test_among_equals_the_newest_of_the_client_with_most_jobs_is_displaced() -> None:
    waiting = queue(limit=5)
    of_many = [pushed(waiting, client="many") for _ in range(3)]
    pushed(waiting, client="few")
    pushed(waiting, client="few")
    assert waiting.displaceable(urgency=3, client="new", size_bytes=0) is of_many[-1]
    assert waiting.displaceable(urgency=3, client="few", size_bytes=0) is None


# The work ahead


def test_the_work_ahead_is_that_of_the_jobs_served_before() -> None:
    times = RunTimes()
    times.record(0, 2.0)
    waiting = queue(run_times=times)
    for client in ("a", "a", "a", "b"):
        pushed(waiting, client=client)
    pushed(waiting, urgency=0)
    waiting.push_back(new_job())

    def ahead_s(urgency: int, client: str) -> float:
        return waiting.ahead_s(urgency=urgency, client=client, index=0, cost_s=2.0)

    assert ahead_s(0, "a") == 2.0 + 2.0  # the returned one, and the one of this urgency
    assert ahead_s(3, "a") == 4.0 + 8.0  # all four
    assert ahead_s(3, "new") == 4.0 + 4.0  # one each of a and b
    assert ahead_s(7, "new") == 4.0 + 8.0


def test_finding_the_next_job_does_not_search_past_served_ones() -> None:
    """Otherwise this test would take quadratic time."""
    waiting = queue(limit=200_000)
    for _ in range(100_000):
        waiting.push(new_job())
    for _ in range(100_000):
        job = waiting.first(0.0)
        assert job is not None
        waiting.take_turn(job)
    assert len(waiting) == 0
