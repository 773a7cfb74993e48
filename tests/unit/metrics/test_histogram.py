"""Histograms: percentiles within 2 % for all values."""

from __future__ import annotations

from array import array
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.metrics.histogram import HISTOGRAM_WORDS, MAX_US, Histogram, MergedHistogram

TWO_HOURS_US = 2 * 3600 * 1_000_000
PER_MILLE = {"p50": 500, "p90": 900, "p99": 990, "p999": 999}

# Every octave is equally likely; nearly all uniform numbers would be hours.
values_us = st.integers(0, 32).flatmap(lambda bits: st.integers((1 << bits) - 1, min((2 << bits) - 2, TWO_HOURS_US)))


def words() -> memoryview:
    return memoryview(array("q", bytes(8 * HISTOGRAM_WORDS)))


def exact_percentile(values: list[int], per_mille: int) -> int:
    """Returns the percentile by nearest rank: the smallest value that is not below `per_mille` of all."""
    return sorted(values)[-(-len(values) * per_mille // 1000) - 1]


@given(st.lists(values_us, min_size=1, max_size=300))
def test_percentiles_are_within_two_percent_of_the_exact_ones(values: list[int]) -> None:
    histogram = Histogram.private()
    for us in values:
        histogram.record(us)
    summary = histogram.summary()
    for name, per_mille in PER_MILLE.items():
        exact_ms = exact_percentile(values, per_mille) / 1000
        assert getattr(summary, name) == pytest.approx(exact_ms, rel=0.02), name


@given(st.lists(values_us, min_size=1, max_size=100))
def test_count_mean_and_max_are_exact(values: list[int]) -> None:
    histogram = Histogram.private()
    for us in values:
        histogram.record(us)
    summary = histogram.summary()
    assert summary.count == len(values)
    assert summary.mean == pytest.approx(sum(values) / len(values) / 1000, abs=0.0006)
    assert summary.max == max(values) / 1000


@given(st.lists(values_us, min_size=1, max_size=100))
def test_percentiles_rise_and_never_exceed_the_maximum(values: list[int]) -> None:
    histogram = Histogram.private()
    for us in values:
        histogram.record(us)
    summary = histogram.summary()
    rising = [summary.p50, summary.p90, summary.p99, summary.p999, summary.max]
    assert rising == sorted(rising)


@pytest.mark.parametrize("us", [0, 1, 63, 64, 65, 127, 128, 12_345, TWO_HOURS_US, MAX_US])
def test_a_single_value_is_read_back_exactly(us: int) -> None:
    histogram = Histogram.private()
    histogram.record(us)
    assert asdict(histogram.summary()) == {"count": 1, **dict.fromkeys(("mean", *PER_MILLE, "max"), us / 1000)}


def test_an_empty_histogram_is_all_zero() -> None:
    assert set(asdict(Histogram.private().summary()).values()) == {0}


def test_values_out_of_range_count_as_its_ends() -> None:
    """The run time that a worker measures is not trusted: it must not overflow a word."""
    histogram = Histogram.private()
    for us in (-5, 1 << 64, 1 << 64, 1 << 64):
        histogram.record(us)
    summary = histogram.summary()
    assert (summary.count, summary.max) == (4, MAX_US / 1000)
    assert summary.p999 == pytest.approx(MAX_US / 1000, rel=0.02)


@given(st.lists(st.lists(values_us | st.sampled_from([-5, 1 << 64]), min_size=1, max_size=30), max_size=5))
def test_many_values_counted_together_count_as_each_by_itself(batches: list[list[int]]) -> None:
    together, singly = words(), words()
    for values in batches:
        Histogram(together).record_all(values)
        for us in values:
            Histogram(singly).record(us)
    assert together == singly


def test_an_unchanged_histogram_is_not_read_again() -> None:
    histogram = Histogram.private()
    histogram.record(500)
    first = histogram.summary()
    assert histogram.summary() is first
    histogram.record(700)
    assert histogram.summary().count == 2


def test_a_histogram_continues_from_the_words_of_another() -> None:
    shared = words()
    Histogram(shared).record(4000)
    successor = Histogram(shared)
    successor.record(8000)
    summary = successor.summary()
    assert (summary.count, summary.mean, summary.max) == (2, 6.0, 8.0)


@given(st.lists(st.tuples(st.integers(0, 2), values_us), max_size=200))
def test_a_merged_histogram_reads_as_if_it_had_recorded_everything(records: list[tuple[int, int]]) -> None:
    parts = [Histogram.private() for _ in range(3)]
    merged = MergedHistogram(words(), parts)
    single = Histogram.private()
    for part, us in records:
        merged.count(parts[part].record_all([us]))
        single.record(us)
    assert merged.summary() == single.summary()
