"""Jobs that kill their workers and are therefore not run again for a while.

A job is identified by its fingerprint: the task and the arguments. It is quarantined after a number of attempts in a
row that killed the worker, each begun after the death before it. An attempt that the worker survives clears the
record. Kills by the service or by people are not counted.

Only jobs of tasks that have crashed lately are fingerprinted.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from offload.core.job import Job

# A record expires after this time without another death: by then data, code or machine may have changed.
FORGET_S: Final = 600.0
# If more jobs than this kill their workers, the task is broken, not the jobs.
_MAX_RECORDS: Final = 1000


@dataclass(slots=True)
class _Record:
    deaths: int
    died_at: float


class Quarantine:
    """A job is quarantined after `after` deaths in a row; 0 for never.

    `crashed_at` is the instant at which a job of a task last killed its worker, by task index. It is read for every
    job, and empty as long as nothing crashes.
    """

    def __init__(self, after: int) -> None:
        self._after = after
        self.crashed_at: dict[int, float] = {}
        self._records: OrderedDict[str, _Record] = OrderedDict()  # by fingerprint; the latest death comes last

    def watches(self, task_index: int, now: float) -> bool:
        """Whether jobs of this task must be fingerprinted."""
        crashed_at = self.crashed_at.get(task_index)
        if crashed_at is None:
            return False
        if now - crashed_at <= FORGET_S:
            return True
        del self.crashed_at[task_index]
        return False

    def note_crash(self, job: Job, died_at: float) -> None:
        """An attempt at the job killed its worker."""
        if self._after:
            self.crashed_at[job.limits.index] = died_at

    def record(self, job: Job) -> None:
        """Add the crashes of a fingerprinted job to its record; clear the record if the job survived."""
        if not self._after or job.fingerprint is None:
            return
        for began_at, died_at in job.crashes:
            self._add(job.fingerprint, began_at, died_at)
        if job.has_survived:
            self._records.pop(job.fingerprint, None)

    def crashes(self, fingerprint: str | None, now: float) -> int | None:
        """Returns how many attempts killed their worker if the job is quarantined, else None."""
        record = None if fingerprint is None else self._records.get(fingerprint)
        if fingerprint is None or record is None or record.deaths < self._after:
            return None
        if now - record.died_at > FORGET_S:
            del self._records[fingerprint]
            return None
        return record.deaths

    def size(self, now: float) -> int:
        """Returns how many jobs are quarantined."""
        return sum(
            record.deaths >= self._after and now - record.died_at <= FORGET_S for record in self._records.values()
        )

    def _add(self, fingerprint: str, began_at: float, died_at: float) -> None:
        record = self._records.get(fingerprint)
        if record is None or died_at - record.died_at > FORGET_S:
            record = _Record(0, float("-inf"))
        # An attempt that overlapped the one before shares its cause, and one that took no time had another cause.
        if record.died_at <= began_at < died_at:
            record.deaths += 1
            record.died_at = died_at
        self._records[fingerprint] = record
        self._records.move_to_end(fingerprint)
        if len(self._records) > _MAX_RECORDS:
            self._records.popitem(last=False)
