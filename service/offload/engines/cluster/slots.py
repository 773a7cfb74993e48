"""The slots as the driver has them.

Which slots there are, the generation of each one's worker, and its job; each change is sent to the service.  Messages
cross: a job may be on its way to a slot that has just lost its worker.  Such a job is dropped here, because its
generation has ended, and the service knows from the number in `lost` that the job had not begun.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from offload.errors import FrameError
from offload.worker.remote import NOT_LOADED, read_answer

_MAX_NUMBER: Final = 2**63  # JSON has no larger ones

Send = Callable[..., None]


class ClusterJob(NamedTuple):
    """A job for a slot: what `worker.cluster` needs of a `remote.Call`."""

    slot: int
    number: int
    task_index: int
    attempt: int
    job_id: str
    head: Sequence[str]
    body: bytes

    @property
    def call(self) -> tuple[int, int, int, int, str, Sequence[str], bytes]:
        """A `remote.Call` without its load."""
        return self.number, self.task_index, self.attempt, self.slot, self.job_id, self.head, self.body


class _Slot:
    __slots__ = ("generation", "is_ready", "number")

    def __init__(self) -> None:
        self.generation = 0
        self.number = 0
        self.is_ready = False


class ClusterSlots:
    """`send` sends a message to the service."""

    def __init__(self, limit: int, send: Send) -> None:
        self._send = send
        self._limit = limit
        self._slots: dict[int, _Slot] = {}
        self._generations: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def add(self) -> int | None:
        """One slot more, without a worker: the first number that is free; None if there are as many as there may be."""
        slot = next((number for number in range(self._limit) if number not in self._slots), None)
        if slot is not None:
            self._slots[slot] = _Slot()
            self._slots[slot].generation = self._generations.get(slot, 0)
        return slot

    def remove(self, slot: int, why: str, *, begun: bool = True) -> None:
        """One slot less; `begun`: whether its job, if it has one, may have."""
        self.mark_lost(slot, why, begun=begun)
        held = self._slots.pop(slot, None)
        if held is not None:
            self._generations[slot] = held.generation
            self._send(["removed", slot])

    def is_idle(self, slot: int) -> bool:
        held = self._slots.get(slot)
        return held is not None and not held.number

    def has_job(self, slot: int, number: int) -> bool:
        held = self._slots.get(slot)
        return held is not None and held.number == number

    def mark_ready(self, slot: int) -> None:
        """The slot, which had none, has a worker now."""
        held = self._slots.get(slot)
        if held is not None and not held.is_ready:
            held.is_ready = True
            held.generation += 1
            self._send(["ready", slot, held.generation])

    def accept(self, slot: int, generation: int, number: int) -> bool:
        """A job comes; False: for a worker that the slot has no more."""
        held = self._slots.get(slot)
        if held is None or not held.is_ready or held.generation != generation:
            return False
        held.number = number
        return True

    def finish(self, slot: int, number: int, values: Any) -> str:
        """A job is over, and its worker ready for the next; nothing happens if it was over before.

        Returns why the worker could not load the tasks, empty if it could; if not, the slot has none.
        """
        if not self.has_job(slot, number):
            return ""
        try:
            answer = read_answer(values, number)
            if not all(0 <= value < _MAX_NUMBER for value in (answer.run_ns, answer.pid, answer.rss_bytes)):
                raise FrameError("numbers that cannot be")
        except FrameError:
            self._slots[slot].number = 0
            self._send(["invalid-answer", slot, number])
            return ""
        if answer.status == NOT_LOADED:
            why = answer.body.decode("utf-8", "replace")
            self.mark_lost(slot, f"could not load the tasks: {why}", begun=False)
            return why
        self._slots[slot].number = 0
        media_type, traceback = _clean(answer.media_type), _clean(answer.traceback)
        head = [answer.status, media_type, answer.run_ns, traceback, answer.pid, answer.rss_bytes]
        self._send(["finished", slot, number, *head], answer.body)
        return ""

    def mark_lost(self, slot: int, why: str, *, begun: bool = True, detail: str = "") -> None:
        """The slot has no worker any more; nothing happens if it had none.

        `why` may be shown to a caller, so it names no machine; `detail` is for the log.
        """
        held = self._slots.get(slot)
        if held is not None and held.is_ready:
            held.is_ready = False
            number, held.number = held.number, 0
            self._send(["lost", slot, number, begun, _clean(why), _clean(detail)])


def _clean(text: str) -> str:
    """JSON has no lone surrogates."""
    return text.encode("utf-8", "replace").decode()
