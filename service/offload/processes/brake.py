"""Decides how long to wait before the next start of a worker when starts keep failing.

Only failed start-ups count; a worker that dies after it was ready is always replaced at once. There is one brake for
all lanes: they run the same code, so what fails in one fails in all. For the same reason, many lanes that fail once
each count as one failure.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

# Two failures may be chance (someone killed a starting worker); the third in a row is a pattern.
_FREE_FAILURES: Final = 2
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 15.0


class Brake:
    def __init__(self) -> None:
        self._failures: Counter[int] = Counter()  # in a row, by lane
        self.error: str | None = None

    @property
    def is_on(self) -> bool:
        """Start-ups keep failing."""
        return self._in_a_row() > _FREE_FAILURES

    def failed(self, lane: int, error: str) -> None:
        """A worker ended before it was ready; `error` says why, for `/stats`."""
        self._failures[lane] += 1
        self.error = error

    def succeeded(self) -> None:
        """A worker is ready."""
        self._failures.clear()
        self.error = None

    def pause_s(self) -> float:
        """Returns the seconds to wait before the next start: 0 at first, then doubling."""
        if not self.is_on:
            return 0.0
        doublings = min(self._in_a_row() - _FREE_FAILURES - 1, 10)
        return min(_FIRST_PAUSE_S * 2.0**doublings, _LONGEST_PAUSE_S)

    def _in_a_row(self) -> int:
        return max(self._failures.values(), default=0)
