"""Log-linear histograms of latencies, in 8-byte words of memory that the caller provides. Each has one writer.

Values are whole microseconds. Below 64 µs each value has its own bucket; above, every octave is divided into 32
buckets. A bucket is read back as its middle, so a percentile is off by at most 1/64, which is 1.6 %:

    value, µs     0 … 63   64 … 127   128 … 255   256 … 511        2^34 … 2^35 - 1 (9.5 hours)
    bucket width  1        2          4           8           …    2^29
    bucket        0 … 63   64 … 95    96 … 127    128 … 159        960 … 991

The words of one histogram, 7,968 bytes:

    word      0      1        2        3        4 … 995
              count  sum, µs  max, µs  min, µs  buckets
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple

_COUNT: Final = 0
_SUM: Final = 1
_MAX: Final = 2
_MIN: Final = 3
_HEADER_WORDS: Final = 4

_SUB_BITS: Final = 5  # 32 buckets in an octave: half a bucket is 1/64 of its value, within the 2 % that are promised
_INDEX_BITS: Final = _SUB_BITS + 1
_EXACT: Final = 1 << _INDEX_BITS
_OCTAVES: Final = 29  # as many as fit into 8 KB
_BUCKETS: Final = _EXACT + (_OCTAVES << _SUB_BITS)

HISTOGRAM_WORDS: Final = _HEADER_WORDS + _BUCKETS
# Longer values count as this long: no run time that a worker claims to have measured may overflow the sum.
MAX_US: Final = (1 << (_INDEX_BITS + _OCTAVES)) - 1

_PER_MILLE: Final[Mapping[str, int]] = {"p50": 500, "p90": 900, "p99": 990, "p999": 999}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The summary of a histogram, in milliseconds; all zero if no value was counted."""

    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0


class _Reading(NamedTuple):
    """The words besides the buckets. They tell whether anything has changed, and which buckets are used."""

    values: int
    sum_us: int
    max_us: int
    min_us: int


class Histogram:
    """A histogram in `HISTOGRAM_WORDS` words, which are zero or were written by another histogram."""

    __slots__ = ("_max_us", "_min_us", "_summary", "_words")

    def __init__(self, words: memoryview) -> None:
        self._words = words
        # Copies for the writer, which compares every value with them: cheaper to read than shared words.
        self._max_us = words[_MAX]
        self._min_us = words[_MIN] if words[_COUNT] else MAX_US + 1
        self._summary = _KeptSummary(words)

    @classmethod
    def private(cls) -> Histogram:
        """Returns an empty histogram in the memory of this process."""
        return cls(memoryview(array("q", bytes(8 * HISTOGRAM_WORDS))))

    def record(self, us: int) -> None:
        """Count a value, limited to the range from 0 to `MAX_US`."""
        self.record_all((us,))

    def record_all(self, values_us: Sequence[int]) -> Mapping[int, int]:
        """Count many values, at least one, at a third of the cost of counting each by itself.

        Returns the number of values by the word of their bucket, for `MergedHistogram.count`.
        """
        least_us, most_us = min(values_us), max(values_us)
        if least_us < 0 or most_us > MAX_US:
            return self.record_all([min(max(us, 0), MAX_US) for us in values_us])
        words = self._words
        if most_us > self._max_us:
            self._max_us = words[_MAX] = most_us
        if least_us < self._min_us:
            self._min_us = words[_MIN] = least_us
        words[_SUM] += sum(values_us)
        words[_COUNT] += len(values_us)
        buckets = Counter(
            [
                us + _HEADER_WORDS
                if us < _EXACT
                else (us >> (shift := us.bit_length() - _INDEX_BITS)) + (shift << _SUB_BITS) + _HEADER_WORDS
                for us in values_us
            ]
        )  # `_word_of` inlined: calling it would cost as much as everything else here
        for word, count in buckets.items():
            words[word] += count
        return buckets

    def summary(self) -> Summary:
        return self._summary.of(self.reading())

    def reading(self) -> _Reading:
        words = self._words
        return _Reading(words[_COUNT], words[_SUM], words[_MAX], words[_MIN])


class MergedHistogram:
    """The sum of several histograms.

    Its buckets are counted as values arrive; the other words are added up when it is read. So a value costs one more
    store, and reading does not add up the buckets of all parts.
    """

    __slots__ = ("_parts", "_summary", "_words")

    def __init__(self, words: memoryview, parts: Sequence[Histogram]) -> None:
        self._words = words
        self._parts = parts
        self._summary = _KeptSummary(words)

    def count(self, buckets: Mapping[int, int]) -> None:
        """Count what a part has recorded; `buckets` is what its `record_all` returned."""
        words = self._words
        for word, count in buckets.items():
            words[word] += count

    def summary(self) -> Summary:
        """Returns the summary over all parts."""
        readings = [reading for part in self._parts if (reading := part.reading()).values]
        if not readings:
            return self._summary.of(_Reading(0, 0, 0, 0))
        counts, sums, maxima, minima = zip(*readings, strict=True)
        return self._summary.of(_Reading(sum(counts), sum(sums), max(maxima), min(minima)))


class _KeptSummary:
    """Makes a summary of the buckets, and keeps it until the histogram changes."""

    __slots__ = ("_kept", "_of_values", "_words")

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self._kept = Summary()
        self._of_values = 0

    def of(self, reading: _Reading) -> Summary:
        if reading.values != self._of_values:
            self._kept = self._make(reading)
            self._of_values = reading.values
        return self._kept

    def _make(self, reading: _Reading) -> Summary:
        count, sum_us, max_us, min_us = reading
        first = _word_of(min_us)
        # Only the buckets in use: the latencies of one task rarely fill more than a tenth of all.
        counted = list(accumulate(self._words[first : _word_of(max_us) + 1].tolist()))
        percentiles = {}
        for name, per_mille in _PER_MILLE.items():
            rank = -(-count * per_mille // 1000)  # nearest rank, rounded up, in whole numbers
            middle_us = _middle_us(first + bisect_left(counted, rank))
            percentiles[name] = max(min_us, min(middle_us, max_us)) / 1000
        return Summary(count=count, mean=round(sum_us / count / 1000, 3), **percentiles, max=max_us / 1000)


def _word_of(us: int) -> int:
    """Returns the word in which a value in range is counted."""
    if us < _EXACT:
        return us + _HEADER_WORDS
    shift = us.bit_length() - _INDEX_BITS
    return (shift << _SUB_BITS) + (us >> shift) + _HEADER_WORDS


def _middle_us(word: int) -> int:
    """Returns the value in the middle of a word's bucket: the inverse of `_word_of`."""
    bucket = word - _HEADER_WORDS
    if bucket < _EXACT:
        return bucket
    shift = (bucket >> _SUB_BITS) - 1
    return ((bucket - (shift << _SUB_BITS)) << shift) + (1 << shift >> 1)
