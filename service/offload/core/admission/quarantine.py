"""Jobs that kill their workers, and are no longer given any.

Lives here: the memory of attempts that ended with their worker's death, by fingerprint: the task and the arguments.  So
many in a row, each begun after the death before it, and that very job is answered without a worker until it is
forgotten.  One attempt that its worker survives clears it.  What we, or people, kill is not told here at all.

Nobody is fingerprinted but for tasks that have crashed lately.  `dispatch` makes the fingerprints.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from offload.core.job import Job

# After so long without another death it is forgotten: the data, the code or the machine may be another by then.
FORGET_S: Final = 600.0
# More than this at a time is no job that is poison, it is a task that is broken.
_MOST: Final = 1000


@dataclass(slots=True)
class _Record:
    deaths: int
    died_at: float


class Quarantine:
    """`after`: so many deaths in a row are enough; 0 for never.  `crashed_at`: when a job of a task killed its worker
    last, by the task's index; nobody is watched while it is empty, which is looked at for every job."""

    def __init__(self, after: int) -> None:
        self._after = after
        self.crashed_at: dict[int, float] = {}
        self._records: OrderedDict[str, _Record] = OrderedDict()  # by fingerprint; the latest death comes last

    def watches(self, task_index: int, now: float) -> bool:
        """Whether jobs of this task are to be fingerprinted."""
        crashed_at = self.crashed_at.get(task_index)
        if crashed_at is None:
            return False
        if now - crashed_at <= FORGET_S:
            return True
        del self.crashed_at[task_index]
        return False

    def note_crash(self, job: Job, died_at: float) -> None:
        """An attempt at the job has killed its worker."""
        if self._after:
            self.crashed_at[job.limits.index] = died_at

    def record(self, job: Job) -> None:
        """What became of a job that has a fingerprint: the attempts at it that killed their workers, or none did."""
        if not self._after or job.fingerprint is None:
            return
        for began_at, died_at in job.crashes:
            self._add(job.fingerprint, began_at, died_at)
        if job.has_survived:
            self._records.pop(job.fingerprint, None)

    def crashes(self, fingerprint: str | None, now: float) -> int | None:
        """How many attempts at this job killed their worker, if it is in quarantine; else None."""
        record = None if fingerprint is None else self._records.get(fingerprint)
        if fingerprint is None or record is None or record.deaths < self._after:
            return None
        if now - record.died_at > FORGET_S:
            del self._records[fingerprint]
            return None
        return record.deaths

    def size(self, now: float) -> int:
        """How many jobs are in quarantine."""
        return sum(
            record.deaths >= self._after and now - record.died_at <= FORGET_S for record in self._records.values()
        )

    def _add(self, fingerprint: str, began_at: float, died_at: float) -> None:
        record = self._records.get(fingerprint)
        if record is None or died_at - record.died_at > FORGET_S:
            record = _Record(0, float("-inf"))
        # One that was at work beside the one before has the same cause; one that did nothing has another's.
        if record.died_at <= began_at < died_at:
            record.deaths += 1
            record.died_at = died_at
        self._records[fingerprint] = record
        self._records.move_to_end(fingerprint)
        if len(self._records) > _MOST:
            self._records.popitem(last=False)
