"""Spread the `Retry-After` of rejected callers, so that they do not all return at once.

Source: the virtual scheduling algorithm of ITU-T I.371 (GCRA), which enforces a rate with one number.
"""

from __future__ import annotations

import math
from typing import Final

# The share of the slots' capacity that is reserved for returning callers; the rest serves new ones.
_RESERVED_SHARE: Final = 0.5
# No caller is asked to wait longer: by then the load may have changed.
_LONGEST_S: Final = 60.0
# Each value grows by up to this share, by multiples of the golden ratio: the most even spread of any number of values.
_SPREAD: Final = 0.2
_GOLDEN: Final = 0.6180339887498949


class RetrySchedule:
    """The instant up to which capacity is reserved for rejected callers."""

    def __init__(self) -> None:
        self._reserved_until = 0.0
        self._reservations = 0

    def reserve(self, now: float, *, free_in_s: float, cost_s: float) -> int:
        """Returns the `Retry-After` of one more rejected caller, whole seconds, at least 1.

        `free_in_s`: the earliest time at which it makes sense. `cost_s`: for how long the job is expected to keep all
        slots busy.
        """
        until = max(self._reserved_until, now + free_in_s) + cost_s / _RESERVED_SHARE
        self._reserved_until = min(until, now + _LONGEST_S)
        self._reservations += 1
        spread = 1 + _SPREAD * (self._reservations * _GOLDEN % 1.0)
        return max(1, math.ceil((self._reserved_until - now) * spread))
