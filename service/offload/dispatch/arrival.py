"""One request's body on its way in, counted against the limit on all that arrives, waits and leaves.

Lives here: the count of one body, which is given back whatever becomes of it.  `web` opens one for each body that did
not come together with its head.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from offload.core.admission.traffic import Traffic
from offload.errors import OffloadError


class NoRoom(OffloadError):
    """What arrives, waits and leaves is as much as may be at once."""

    def __str__(self) -> str:
        return "no room is left for what arrives"


class Arrival:
    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._traffic.body_has_arrived(self._size_bytes)

    def add(self, size_bytes: int) -> None:
        """So many more bytes have come.  Raises NoRoom."""
        self._size_bytes += size_bytes
        if not self._traffic.body_grows(size_bytes, to_bytes=self._size_bytes):
            raise NoRoom
