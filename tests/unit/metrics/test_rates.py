"""Rates: the jobs that ended in each window, divided by the time that has really passed."""

from __future__ import annotations

import pytest

from offload.metrics.rates import Rates

START = 5000.0


def rates_of(rates: Rates, now: float) -> list[float]:
    summary = rates.summary(now)
    return [summary.jobs_per_s_1s, summary.jobs_per_s_10s, summary.jobs_per_s_60s]


def test_a_service_that_has_just_started_has_no_rate() -> None:
    assert rates_of(Rates(START), START) == [0.0, 0.0, 0.0]


def test_a_young_service_divides_by_the_time_that_has_passed() -> None:
    rates = Rates(START)
    rates.tick(START + 5, 100)
    assert rates_of(rates, START + 5)[1:] == [20.0, 20.0]


def test_a_steady_rate_is_the_same_in_every_window() -> None:
    rates = Rates(START)
    for tick in range(1, 1001):
        rates.tick(START + tick / 4, tick * 10)
    assert rates_of(rates, START + 250) == [40.0, 40.0, 40.0]


def test_a_burst_leaves_each_window_in_time() -> None:
    """600 jobs within the first second, then nothing."""
    rates = Rates(START)
    rates.tick(START + 1, 600)
    seen = {}
    for second in range(2, 80):
        rates.tick(START + second, 600)
        seen[second] = rates_of(rates, START + second)
    assert seen[2] == [0.0, 300.0, 300.0]
    assert seen[10] == [0.0, 60.0, 60.0]
    assert seen[11] == [0.0, 0.0, pytest.approx(600 / 11, abs=0.001)]
    assert seen[60] == [0.0, 0.0, 10.0]
    assert seen[61] == [0.0, 0.0, 0.0]


def test_ticks_faster_than_the_resolution_lose_no_jobs() -> None:
    rates = Rates(START)
    for tick in range(1, 1001):
        rates.tick(START + tick / 1000, tick)
    assert rates_of(rates, START + 1) == [1000.0, 1000.0, 1000.0]


def test_the_rate_is_averaged_over_a_stall_of_the_loop() -> None:
    rates = Rates(START)
    rates.tick(START + 100, 0)
    rates.tick(START + 105, 50)
    assert rates_of(rates, START + 105)[0] == 10.0


def test_the_rate_falls_when_ticks_stop() -> None:
    rates = Rates(START)
    rates.tick(START + 1, 100)
    assert rates_of(rates, START + 100) == [0.0, 0.0, 0.0]
