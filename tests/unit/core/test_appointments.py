"""When those who are refused are told to come back."""

from __future__ import annotations

from offload.core.admission.retry_after import Appointments


def test_the_first_is_told_when_there_is_a_place() -> None:
    assert Appointments().make(100.0, free_in_s=2.5, cost_s=0.0) in (3, 4)


def test_nobody_is_told_less_than_a_second() -> None:
    assert Appointments().make(100.0, free_in_s=-5.0, cost_s=0.0) == 1


def test_as_many_are_told_to_come_in_a_second_as_half_the_service_can_do() -> None:
    """Else all who were refused together would come back together, for one place."""
    appointments = Appointments()
    told = [appointments.make(0.0, free_in_s=0.0, cost_s=0.01) for _ in range(1000)]
    for second in range(2, 18):
        assert 35 <= sum(second <= when < second + 1 for when in told) <= 65, second
    assert max(told) <= 24  # twenty seconds of half the service, spread by a fifth


def test_nobody_is_told_to_stay_away_for_much_longer_than_a_minute() -> None:
    appointments = Appointments()
    assert max(appointments.make(0.0, free_in_s=0.0, cost_s=1.0) for _ in range(10_000)) <= 72


def test_what_was_promised_is_over_when_its_time_is() -> None:
    appointments = Appointments()
    for _ in range(1000):
        appointments.make(0.0, free_in_s=0.0, cost_s=0.01)
    assert appointments.make(1000.0, free_in_s=0.0, cost_s=0.01) == 1
