"""Names of jobs: 128 random bits, as 32 hexadecimal digits.

Whoever knows a job's id may cancel it, so ids cannot be guessed.
"""

from __future__ import annotations

import os
from typing import Final

from offload.core.job import JobId

_ID_BYTES: Final = 16
# One read from the kernel for many ids: a system call for each would be a noticeable part of a short job.
_IDS_A_READ: Final = 256


class JobIds:
    def __init__(self) -> None:
        self._digits = ""
        self._at = 0

    def next(self) -> JobId:
        if self._at == len(self._digits):
            self._digits = os.urandom(_ID_BYTES * _IDS_A_READ).hex()
            self._at = 0
        start = self._at
        self._at = start + 2 * _ID_BYTES
        return JobId(self._digits[start : self._at])
