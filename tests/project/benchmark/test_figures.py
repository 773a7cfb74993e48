"""The arithmetic of the benchmark's tables."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmark.figures import Percentiles, Spread, percentile, ratios

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("percent", "expected"), [(1, 1), (50, 50), (90, 90), (99, 99), (100, 100)])
def test_a_percentile_is_the_value_of_that_rank(percent: int, expected: float) -> None:
    assert percentile(range(1, 101), percent) == expected


def test_percentiles_of_few_values_are_among_them() -> None:
    assert Percentiles.of([3.0, 1.0, 2.0]) == Percentiles(count=3, p50_ms=2.0, p90_ms=3.0, p99_ms=3.0, max_ms=3.0)


def test_percentiles_of_nothing_are_zero() -> None:
    assert Percentiles.of([]) == Percentiles(count=0, p50_ms=0.0, p90_ms=0.0, p99_ms=0.0, max_ms=0.0)


@given(values=st.lists(st.floats(0, 1e6), min_size=1), percent=st.integers(1, 100))
def test_the_given_share_of_values_does_not_exceed_a_percentile(values: list[float], percent: int) -> None:
    found = percentile(sorted(values), percent)
    assert sum(value <= found for value in values) * 100 >= percent * len(values)
    assert sum(value < found for value in values) * 100 < percent * len(values)


def test_ratios_are_taken_within_each_round() -> None:
    """A round in which the whole machine was slow by half changes no ratio."""
    assert ratios([200.0, 100.0, 330.0], [100.0, 50.0, 110.0]) == Spread(median=2.0, lowest=2.0, highest=3.0)


def test_a_round_whose_other_value_is_zero_is_left_out() -> None:
    assert ratios([200.0, 100.0], [0.0, 50.0]) == Spread(median=2.0, lowest=2.0, highest=2.0)
    assert ratios([200.0], [0.0]) is None


@given(rounds=st.lists(st.floats(1, 1e6), min_size=1), slowness=st.floats(0.01, 100))
def test_ratios_to_itself_are_one(rounds: list[float], slowness: float) -> None:
    assert ratios(rounds, rounds) == Spread(median=1.0, lowest=1.0, highest=1.0)
    slowed = ratios([value * slowness for value in rounds], rounds)
    assert slowed is not None
    assert statistics.fmean((slowed.lowest, slowed.highest)) == pytest.approx(slowness)
