"""The arithmetic of the tables: percentiles, and ratios within a round.

Lives here: pure functions on numbers that others measured.  The load generator and the scenarios call it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """How a number of durations are spread, milliseconds; zeros when there were none."""

    count: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, durations_ms: Iterable[float]) -> Self:
        ordered = sorted(durations_ms)
        return cls(
            count=len(ordered),
            p50_ms=percentile(ordered, 50),
            p90_ms=percentile(ordered, 90),
            p99_ms=percentile(ordered, 99),
            max_ms=percentile(ordered, 100),
        )


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
    """The nearest rank: the smallest value that at least `percent` (1 to 100) of a hundred do not exceed."""
    if not ordered:
        return 0.0
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread | None:
    """Ours to theirs, each round by itself: what slows a whole round down falls out.  None when theirs was zero."""
    pairs = zip(ours, theirs, strict=True)
    quotients = [our / their for our, their in pairs if their]
    return Spread.of(quotients) if quotients else None


def differences(ours: Sequence[float], theirs: Sequence[float]) -> Spread | None:
    """Ours less theirs, each round by itself.  None without rounds."""
    found = [our - their for our, their in zip(ours, theirs, strict=True)]
    return Spread.of(found) if found else None
