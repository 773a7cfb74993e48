"""`Retry-After` of rejected callers."""

from __future__ import annotations

from offload.core.admission.retry_after import RetrySchedule


def test_the_first_caller_returns_when_there_is_room() -> None:
    assert RetrySchedule().reserve(100.0, free_in_s=2.5, cost_s=0.0) in (3, 4)


def test_the_shortest_wait_is_a_second() -> None:
    assert RetrySchedule().reserve(100.0, free_in_s=-5.0, cost_s=0.0) == 1


def test_half_of_the_capacity_is_reserved_for_each_second() -> None:
    """Otherwise all callers that were rejected together would return together, for one free slot."""
    schedule = RetrySchedule()
    waits_s = [schedule.reserve(0.0, free_in_s=0.0, cost_s=0.01) for _ in range(1000)]
    for second in range(2, 18):
        assert 35 <= sum(second <= wait_s < second + 1 for wait_s in waits_s) <= 65, second
    assert max(waits_s) <= 24  # twenty seconds at half the capacity, spread by a fifth


def test_no_caller_waits_much_longer_than_a_minute() -> None:
    schedule = RetrySchedule()
    assert max(schedule.reserve(0.0, free_in_s=0.0, cost_s=1.0) for _ in range(10_000)) <= 72


def test_reservations_expire() -> None:
    schedule = RetrySchedule()
    for _ in range(1000):
        schedule.reserve(0.0, free_in_s=0.0, cost_s=0.01)
    assert schedule.reserve(1000.0, free_in_s=0.0, cost_s=0.01) == 1
