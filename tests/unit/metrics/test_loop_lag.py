"""Loop lag: the last half minute always counts, anything older than a minute never does."""

from __future__ import annotations

import pytest

from offload.metrics.loop_lag import LagSummary, LoopLag

START = 5000.0


def test_without_a_lag_the_summary_is_zero() -> None:
    assert LoopLag(START).summary() == LagSummary(p50=0, p99=0, max=0)


def test_lags_are_shown_in_milliseconds() -> None:
    lag = LoopLag(START)
    for _ in range(99):
        lag.record(0.001, START + 1)
    lag.record(0.25, START + 2)
    assert lag.summary() == LagSummary(p50=1.0, p99=1.0, max=250.0)


@pytest.mark.parametrize("lagged_at", [1, 29, 31, 45, 59, 61, 89])
def test_a_lag_counts_for_at_least_half_a_minute_and_at_most_a_minute(lagged_at: int) -> None:
    lag = LoopLag(START)
    largest = []
    for second in range(lagged_at + 61):
        lag.record(0.5 if second == lagged_at else 0.001, START + second)
        largest.append(lag.summary().max)
    assert set(largest[lagged_at : lagged_at + 30]) == {500.0}
    assert largest[lagged_at + 60] == 1.0


def test_a_loop_that_stalled_for_minutes_shows_only_that() -> None:
    lag = LoopLag(START)
    lag.record(0.01, START + 1)
    lag.record(300.0, START + 301)
    assert lag.summary() == LagSummary(p50=300_000.0, p99=300_000.0, max=300_000.0)
