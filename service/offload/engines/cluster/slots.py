"""The driver's slots: the generation of each one's worker, and its job. Every change is sent to the service.

Messages can cross: a job may be on its way to a slot that has just lost its worker. The driver drops a job for an
earlier generation, and the service knows from the number in `lost` that this job had not begun.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from offload.errors import FrameError
from offload.worker.foreign.remote import NOT_LOADED, read_answer

_MAX_NUMBER: Final = 2**63  # JSON has no larger ones

Send = Callable[..., None]


class ClusterJob(NamedTuple):
    """A job for a slot: a `remote.Call` with the slot instead of the lane, and without its load."""

    slot: int
    number: int
    task_index: int
    attempt: int
    job_id: str
    head: Sequence[str]
    body: bytes

    @property
    def call(self) -> tuple[int, int, int, int, str, Sequence[str], bytes]:
        """The fields of a `remote.Call` without its load."""
        return self.number, self.task_index, self.attempt, self.slot, self.job_id, self.head, self.body


class _Slot:
    """`number` is that of its job, 0 without one."""

    __slots__ = ("is_ready", "number")

    def __init__(self) -> None:
        self.number = 0
        self.is_ready = False


class ClusterSlots:
    """At most `limit` slots. `send` sends a message to the service."""

    def __init__(self, limit: int, send: Send) -> None:
        self._send = send
        self._limit = limit
        self._slots: dict[int, _Slot] = {}
        self._generations: Counter[int] = Counter()  # also of removed slots, which may be added again

    def add(self) -> int | None:
        """Add a slot without a worker; return the lowest free number, or None at the limit."""
        slot = next((number for number in range(self._limit) if number not in self._slots), None)
        if slot is not None:
            self._slots[slot] = _Slot()
        return slot

    def remove(self, slot: int, why: str, *, begun: bool = True) -> None:
        """Remove a slot. `begun`: its job, if it has one, may have begun."""
        self.mark_lost(slot, why, begun=begun)
        if self._slots.pop(slot, None) is not None:
            self._send(["removed", slot])

    def is_idle(self, slot: int) -> bool:
        entry = self._slots.get(slot)
        return entry is not None and not entry.number

    def has_job(self, slot: int, number: int) -> bool:
        entry = self._slots.get(slot)
        return entry is not None and entry.number == number

    def mark_ready(self, slot: int) -> None:
        """Give the slot a worker and send `ready`; do nothing if it has one."""
        entry = self._slots.get(slot)
        if entry is not None and not entry.is_ready:
            entry.is_ready = True
            self._generations[slot] += 1
            self._send(["ready", slot, self._generations[slot]])

    def accept(self, slot: int, generation: int, number: int) -> bool:
        """Assign a job; return False if it is for an earlier generation."""
        entry = self._slots.get(slot)
        if entry is None or not entry.is_ready or self._generations[slot] != generation:
            return False
        entry.number = number
        return True

    def finish(self, slot: int, number: int, values: Any) -> str:
        """Report the answer to a job, and free the slot; do nothing if the job has already finished.

        Returns "", or the reason if the worker could not load the tasks; the slot then has no worker.
        """
        if not self.has_job(slot, number):
            return ""
        try:
            answer = read_answer(values, number)
            if not all(0 <= value < _MAX_NUMBER for value in (answer.run_ns, answer.pid, answer.rss_bytes)):
                raise FrameError("number out of range")
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
        """Take the worker from the slot and send `lost`; do nothing if the slot has none.

        `why` may be shown to a caller, so it must not name a machine; `detail` is for the log.
        """
        entry = self._slots.get(slot)
        if entry is not None and entry.is_ready:
            entry.is_ready = False
            number, entry.number = entry.number, 0
            self._send(["lost", slot, number, begun, _clean(why), _clean(detail)])


def _clean(text: str) -> str:
    """Replace lone surrogates, which JSON cannot hold."""
    return text.encode("utf-8", "replace").decode()
