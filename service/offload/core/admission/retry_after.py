"""When callers who are refused are told to come back.

Lives here: one instant, up to which the service has promised its time to those it sent away.  If all of them were told
when the queue will be shorter, all would come back for one place.  The scheduler asks once for each that it refuses.

Source: the virtual scheduling of ITU-T I.371 (GCRA), which keeps a rate by one number.
"""

from __future__ import annotations

import math
from typing import Final

# Of what the slots can do so much is promised; the rest is for those who come for the first time.
_PROMISED_SHARE: Final = 0.5
# Nobody is told to stay away for longer: by then everything may be different.
_LONGEST_S: Final = 60.0
# Up to so much is added to what each is told, by the golden ratio: the most even spread of any number of them.
_SPREAD: Final = 0.2
_GOLDEN: Final = 0.6180339887498949


class Appointments:
    def __init__(self) -> None:
        self._promised_until = 0.0
        self._made = 0

    def make(self, now: float, *, free_in_s: float, cost_s: float) -> int:
        """For the `Retry-After` of one more caller, whole seconds, at least 1.

        `free_in_s`: not before.  `cost_s`: for how long its job is expected to keep all slots busy.
        """
        until = max(self._promised_until, now + free_in_s) + cost_s / _PROMISED_SHARE
        self._promised_until = min(until, now + _LONGEST_S)
        self._made += 1
        spread = 1 + _SPREAD * (self._made * _GOLDEN % 1.0)
        return max(1, math.ceil((self._promised_until - now) * spread))
