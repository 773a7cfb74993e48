"""Ids of jobs: 128 random bits, as 32 hexadecimal digits.

Any client that knows a job's id may cancel it, so ids must not be guessable.
"""

from __future__ import annotations

import os
from typing import Final

from offload.core.job import JobId

_ID_BYTES: Final = 16
# Reads random bits for many ids at once: a system call for each would be a noticeable part of a short job.
_IDS_A_READ: Final = 256


class JobIds:
    def __init__(self) -> None:
        self._ids: list[JobId] = []

    def next(self) -> JobId:
        if not self._ids:
            digits = os.urandom(_ID_BYTES * _IDS_A_READ).hex()
            self._ids = [JobId(digits[at : at + 2 * _ID_BYTES]) for at in range(0, len(digits), 2 * _ID_BYTES)]
        return self._ids.pop()
