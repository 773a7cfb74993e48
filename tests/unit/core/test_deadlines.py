"""Deadlines are never early, at most one tick late, and cost constant time and memory."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.core.deadlines import TICK_S, Alarm, Deadlines
from offload.core.job import Job
from tests.unit.core.stage import new_job


@given(st.floats(min_value=0.0, max_value=1e7))
def test_a_job_is_never_due_early_and_at_most_a_tick_late(instant: float) -> None:
    deadlines: Deadlines[Job] = Deadlines(Alarm())
    deadlines.set(new_job(), instant)
    due_at = deadlines.next_instant()
    assert due_at is not None
    assert instant <= due_at <= instant + TICK_S * 1.001
    assert not deadlines.pop_due(due_at - TICK_S / 100)
    assert len(deadlines.pop_due(due_at)) == 1


@given(st.lists(st.floats(min_value=0.0, max_value=10.0), max_size=30), st.floats(min_value=0.0, max_value=10.0))
def test_due_items_come_out_earliest_first_and_once(instants: list[float], now: float) -> None:
    deadlines: Deadlines[Job] = Deadlines(Alarm())
    jobs = {new_job(): instant for instant in instants}
    for job, instant in jobs.items():
        deadlines.set(job, instant)
    due = deadlines.pop_due(now)
    ticks = [jobs[job] // TICK_S for job in due]
    assert ticks == sorted(ticks)
    assert len(set(due)) == len(due)
    assert {job for job, instant in jobs.items() if instant <= now - 2 * TICK_S} <= set(due)
    assert deadlines.pop_due(now) == []
    assert len(deadlines) == len(jobs) - len(due)


def test_nothing_is_due_without_items() -> None:
    assert Deadlines(Alarm()).next_instant() is None
    assert Deadlines(Alarm()).pop_due(1e9) == []


def test_a_later_entry_replaces_the_earlier_one() -> None:
    deadlines, job = Deadlines[Job](Alarm()), new_job()
    deadlines.set(job, 1.0)
    deadlines.set(job, 5.0)
    assert deadlines.pop_due(4.0) == []
    assert deadlines.pop_due(6.0) == [job]


def test_the_same_instant_again_changes_nothing() -> None:
    deadlines, job = Deadlines[Job](Alarm()), new_job()
    deadlines.set(job, 1.0)
    deadlines.set(job, 1.0)
    assert len(deadlines) == 1
    assert deadlines.pop_due(2.0) == [job]


def test_a_discarded_job_is_not_due() -> None:
    deadlines, job, other = Deadlines[Job](Alarm()), new_job(), new_job()
    deadlines.set(job, 1.0)
    deadlines.set(other, 3.0)
    deadlines.discard(job)
    assert (job in deadlines, other in deadlines) == (False, True)
    assert deadlines.next_instant() == pytest.approx(3.0, abs=2 * TICK_S)
    assert deadlines.pop_due(9.0) == [other]


def test_discarding_an_unknown_job_does_nothing() -> None:
    deadlines: Deadlines[Job] = Deadlines(Alarm())
    deadlines.discard(new_job())
    assert len(deadlines) == 0


def test_an_emptied_tick_can_be_used_again() -> None:
    deadlines, first, second = Deadlines[Job](Alarm()), new_job(), new_job()
    deadlines.set(first, 1.0)
    deadlines.discard(first)
    deadlines.set(second, 1.0)
    assert deadlines.pop_due(2.0) == [second]
    assert deadlines.next_instant() is None


def test_remaining_jobs_are_due_however_many_others_have_ended() -> None:
    deadlines, job = Deadlines[Job](Alarm()), new_job()
    left = [new_job() for _ in range(5)]
    for number, one in enumerate(left):
        deadlines.set(one, 10.0 + number)
    for number in range(1000):
        deadlines.set(job, 100.0 + number)
        deadlines.discard(job)
    assert deadlines.next_instant() == pytest.approx(10.0, abs=2 * TICK_S)
    assert deadlines.pop_due(1e6) == left


def test_jobs_that_ended_long_before_their_limit_leave_no_memory_behind() -> None:
    """A limit of a day and jobs that take a millisecond: memory must follow the present jobs.

    Another item is due before all of them, so stale ticks cannot be dropped from the front.
    """
    deadlines, job, earliest = Deadlines[Job](Alarm()), new_job(), new_job()
    deadlines.set(earliest, 1.0)
    tracemalloc.start()
    try:
        for number in range(20_000):
            deadlines.set(job, 86_400.0 + number * 2 * TICK_S)
            deadlines.discard(job)
            deadlines.next_instant()
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < 100_000


@given(st.lists(st.floats(min_value=0.0, max_value=10.0), min_size=1, max_size=30), st.data())
def test_the_alarm_is_never_later_than_the_next_due_item(instants: list[float], data: st.DataObject) -> None:
    alarm = Alarm()
    some, others = Deadlines[Job](alarm), Deadlines[Job](alarm)
    jobs = [new_job() for _ in instants]
    for job, instant in zip(jobs, instants, strict=True):
        data.draw(st.sampled_from([some, others])).set(job, instant)
    for job in data.draw(st.lists(st.sampled_from(jobs))):
        some.discard(job)
    due_at = [due for one in (some, others) if (due := one.next_instant()) is not None]
    assert alarm.at <= min(due_at, default=alarm.at)
