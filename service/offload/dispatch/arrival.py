"""One request's body on its way in, counted against the limit on the bytes that arrive, wait and leave."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from offload.core.admission.traffic import Traffic
from offload.errors import OffloadError


class NoRoom(OffloadError):
    """The bytes that arrive, wait and leave have reached their limit."""

    def __str__(self) -> str:
        return "the body has no room: arriving, waiting and leaving bytes have reached their limit"


class Arrival:
    """The bytes of one body, as a context manager that gives them back at its end."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._traffic.body_has_arrived(self._size_bytes)

    def add(self, size_bytes: int) -> None:
        """Count more bytes. Raises NoRoom."""
        self._size_bytes += size_bytes
        if not self._traffic.body_grows(size_bytes, to_bytes=self._size_bytes):
            raise NoRoom
