"""The estimates of run times."""

from __future__ import annotations

from random import Random

import pytest

from offload.core.run_times import UNKNOWN_S, RunTimes


def test_an_unknown_task_has_a_cautious_mean_and_a_typical_time_of_zero() -> None:
    times = RunTimes()
    assert (times.expected_s(0), times.typical_s(0)) == (UNKNOWN_S, 0.0)
    assert not times.is_quiet_and_below(0, 1e9)


def test_the_first_run_is_the_mean_and_each_later_one_moves_it_by_a_twentieth() -> None:
    times = RunTimes()
    times.record(0, 2.0)
    assert times.expected_s(0) == 2.0
    times.record(0, 4.0)
    assert times.expected_s(0) == pytest.approx(2.1)
    assert times.expected_s(1) == UNKNOWN_S


def test_a_stopped_run_counts_only_if_it_took_longer_than_expected() -> None:
    times = RunTimes()
    times.record(0, 2.0)
    times.record_at_least(0, 1.0)
    assert times.expected_s(0) == 2.0
    times.record_at_least(0, 4.0)
    assert times.expected_s(0) == pytest.approx(2.1)


def test_the_first_run_counts_even_if_it_was_stopped() -> None:
    times = RunTimes()
    times.record_at_least(0, 0.001)
    assert times.expected_s(0) == 0.001


def test_the_typical_run_time_is_near_the_median() -> None:
    """One run in fifty takes ten seconds; the mean is far from what most runs take."""
    times, random = RunTimes(), Random(1)
    for _ in range(2000):
        times.record(0, 10.0 if random.random() < 0.02 else 0.001 * (0.5 + random.random()))
    assert times.typical_s(0) == pytest.approx(0.001, rel=0.5)


def test_the_estimates_follow_a_change_by_orders_of_magnitude() -> None:
    times = RunTimes()
    for run_s in [0.001] * 10 + [1.0] * 100:
        times.record(0, run_s)
    assert times.typical_s(0) == pytest.approx(1.0, rel=0.2)
    assert times.expected_s(0) == pytest.approx(1.0, rel=0.05)
