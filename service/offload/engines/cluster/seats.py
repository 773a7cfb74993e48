"""The slots as the driver has them.

Lives here: which slots there are, how often each got a worker (its turn), and the job in it; every change is told to
the service.  Messages cross: a job may be on its way to a slot that has just lost its worker.  It is dropped here,
because its turn is over, and the service knows by the number that came with `gone` that it had not begun.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from offload.errors import FrameError
from offload.worker.remote import NOT_LOADED, read_answer

_MAX_NUMBER: Final = 2**63  # JSON has no larger ones

Tell = Callable[..., None]


class Order(NamedTuple):
    """A job for a slot: what `worker.cluster` needs of a `remote.Call`."""

    slot: int
    number: int
    task_index: int
    attempt: int
    meta: bytes
    body: bytes

    @property
    def call(self) -> tuple[int, int, int, int, bytes, bytes]:
        """A `remote.Call` without its load."""
        return self.number, self.task_index, self.attempt, self.slot, self.meta, self.body


class _Seat:
    __slots__ = ("is_ready", "number", "turn")

    def __init__(self) -> None:
        self.turn = 0
        self.number = 0
        self.is_ready = False


class Seats:
    """`tell` sends a message to the service."""

    def __init__(self, limit: int, tell: Tell) -> None:
        self._tell = tell
        self._limit = limit
        self._seats: dict[int, _Seat] = {}
        self._turns: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._seats)

    def add(self) -> int | None:
        """One slot more, without a worker: the first number that is free; None if there are as many as there may be."""
        slot = next((number for number in range(self._limit) if number not in self._seats), None)
        if slot is not None:
            self._seats[slot] = _Seat()
            self._seats[slot].turn = self._turns.get(slot, 0)
        return slot

    def remove(self, slot: int, why: str, *, begun: bool = True) -> None:
        """One slot less; `begun`: whether its job, if it has one, may have."""
        self.lose(slot, why, begun=begun)
        seat = self._seats.pop(slot, None)
        if seat is not None:
            self._turns[slot] = seat.turn
            self._tell(["removed", slot])

    def is_idle(self, slot: int) -> bool:
        seat = self._seats.get(slot)
        return seat is not None and not seat.number

    def has(self, slot: int, number: int) -> bool:
        seat = self._seats.get(slot)
        return seat is not None and seat.number == number

    def ready(self, slot: int) -> None:
        """The slot, which had none, has a worker now."""
        seat = self._seats.get(slot)
        if seat is not None and not seat.is_ready:
            seat.is_ready = True
            seat.turn += 1
            self._tell(["ready", slot, seat.turn])

    def take(self, slot: int, turn: int, number: int) -> bool:
        """A job comes; False: for a worker that the slot has no more."""
        seat = self._seats.get(slot)
        if seat is None or not seat.is_ready or seat.turn != turn:
            return False
        seat.number = number
        return True

    def answer(self, slot: int, number: int, values: Any) -> str:
        """A job is over, and its worker ready for the next; nothing happens if it was over before.

        Returns why the worker could not load the tasks, empty if it could; if not, the slot has none.
        """
        if not self.has(slot, number):
            return ""
        try:
            answer = read_answer(values, number)
            if not all(0 <= value < _MAX_NUMBER for value in (answer.run_ns, answer.pid, answer.rss_bytes)):
                raise FrameError("numbers that cannot be")
        except FrameError:
            self._seats[slot].number = 0
            self._tell(["garbage", slot, number])
            return ""
        if answer.status == NOT_LOADED:
            why = answer.body.decode("utf-8", "replace")
            self.lose(slot, f"could not load the tasks: {why}", begun=False)
            return why
        self._seats[slot].number = 0
        media_type, traceback = _clean(answer.media_type), _clean(answer.traceback)
        head = [answer.status, media_type, answer.run_ns, traceback, answer.pid, answer.rss_bytes]
        self._tell(["answer", slot, number, *head], answer.body)
        return ""

    def lose(self, slot: int, why: str, *, begun: bool = True, detail: str = "") -> None:
        """The slot has no worker any more; nothing happens if it had none.

        `why` may be shown to a caller, so it names no machine; `detail` is for the log.
        """
        seat = self._seats.get(slot)
        if seat is not None and seat.is_ready:
            seat.is_ready = False
            number, seat.number = seat.number, 0
            self._tell(["gone", slot, number, begun, _clean(why), _clean(detail)])


def _clean(text: str) -> str:
    """JSON has no lone surrogates."""
    return text.encode("utf-8", "replace").decode()
