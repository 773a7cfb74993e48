"""The arithmetic of the tables: percentiles, and ratios within a round."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """The distribution of durations in milliseconds; zeros if there are none."""

    count: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, durations_ms: Iterable[float]) -> Self:
        ordered = sorted(durations_ms)
        p50_ms, p90_ms, p99_ms, max_ms = (percentile(ordered, percent) for percent in (50, 90, 99, 100))
        return cls(count=len(ordered), p50_ms=p50_ms, p90_ms=p90_ms, p99_ms=p99_ms, max_ms=max_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One figure over several rounds."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Raises statistics.StatisticsError without values."""
        return cls(median=statistics.median(values), lowest=min(values), highest=max(values))


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Returns the nearest rank: the smallest value that at least `percent` (1 to 100) percent do not exceed."""
    if not ordered:
        return 0.0
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def ratios(values: Sequence[float], others: Sequence[float]) -> Spread | None:
    """Returns value / other within each round, which a slow round does not change. None if all others are zero."""
    quotients = [value / other for value, other in zip(values, others, strict=True) if other]
    return Spread.of(quotients) if quotients else None
