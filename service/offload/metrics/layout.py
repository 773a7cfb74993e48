"""Where each number lies in the shared memory, and who may write it.

Lives here: the one block of memory, and a worker's row in it.  What the numbers of the parent mean is the recorder's
business.  The service makes one `MetricsMemory` before its first worker and passes it to every process; workers write
through `WorkerRow`.

The block is an array of signed 8-byte integers from `multiprocessing`, without its lock: whoever is killed while it
holds one would block everybody else.  T tasks, L lanes, offsets in words of 8 bytes:

    offset              words   what                                                      written by
    0                   16 L    worker rows                                               the lane's worker
    16 L                24 T    counter rows, one a task                                  the service
    16 L + 24 T         2988    histograms over all tasks: queue, run, response           the service
    16 L + 24 T + 2988  2988 T  histograms of each task, in the same order                the service

    worker row          0 busy, ns   1 jobs   2 current job   3 its begin, ns   4 … 15 free
    counter row         0 … 6 `JOB_COUNTERS`   7 … 12 `REJECTIONS`   13 … 17 `OVERLOADED_BY`   18 … 23 free
    histogram           see `histogram`; the service puts latencies there by the dozen, and before it reads them

Two worker rows have 96 unused bytes between them, so they never share a cache line of 64 bytes, wherever the block
begins.

No read is torn: an aligned load or store of 8 bytes is one access on the machines that we run on (Intel 64 and IA-32
Architectures Software Developer's Manual, volume 3A, "Guaranteed Atomic Operations"; Arm Architecture Reference
Manual, "Single-copy atomicity"), and CPython moves an item of this size with a `memcpy` of constant length, which is
one such access.  Reads of several words are not one moment: the order of the stores below is chosen so that each
number is right by itself.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from multiprocessing.sharedctypes import RawArray
from typing import Any, Final

from offload.core.outcome import OverloadCause
from offload.metrics.histogram import HISTOGRAM_WORDS

REJECTIONS: Final = ("overloaded", "client-queue-full", "rate-limited", "quarantined", "draining", "starting")
OVERLOADED_BY: Final = tuple(cause.value for cause in OverloadCause)
LATENCIES: Final = ("queue", "run", "response")

_ROW_WORDS: Final = 16
_COUNTER_WORDS: Final = 24
_LATENCY_WORDS: Final = len(LATENCIES) * HISTOGRAM_WORDS

_BUSY: Final = 0
_JOBS: Final = 1
_CURRENT_JOB: Final = 2
_CURRENT_BEGAN_NS: Final = 3

_NS_PER_S: Final = 1e9


@dataclass(frozen=True)
class JobCounts:
    """How many jobs came, and how they ended.  The fields are the first words of a counter row, in their order."""

    submitted: int
    succeeded: int
    failed: int
    timed_out: int
    cancelled: int
    crashed: int
    rejected: int

    @property
    def ended(self) -> int:
        """Jobs that were taken and are over, however they ended; refused ones are none."""
        return self.succeeded + self.failed + self.timed_out + self.cancelled + self.crashed


JOB_COUNTERS: Final = tuple(field.name for field in fields(JobCounts))


class MetricsMemory:
    """The block, for `tasks` tasks and `lanes` lanes; all zero at first.

    It may be an argument of a `multiprocessing.Process` of any start method, and pickles only as that.
    """

    __slots__ = ("_array", "_words", "lanes", "tasks")

    def __init__(self, *, tasks: int, lanes: int) -> None:
        size_words = _ROW_WORDS * lanes + _COUNTER_WORDS * tasks + _LATENCY_WORDS * (1 + tasks)
        # `RawArray` itself and not `multiprocessing.Array`, which would fix the process's default start method.
        self.__setstate__((tasks, lanes, RawArray("q", size_words)))

    def __getstate__(self) -> tuple[int, int, Any]:
        return self.tasks, self.lanes, self._array

    def __setstate__(self, state: tuple[int, int, Any]) -> None:
        self.tasks, self.lanes, self._array = state
        # A ctypes array calls its format "<q", which a memoryview does not index; "q" is the same on our machines.
        self._words = memoryview(self._array).cast("B").cast("q")

    def worker_row(self, lane: int) -> WorkerRow:
        _check_index("lane", lane, self.lanes)
        return WorkerRow(self._part(_ROW_WORDS * lane, _ROW_WORDS))

    def counters(self, task_index: int) -> memoryview:
        """The words of a task's counters: `JOB_COUNTERS`, `REJECTIONS`, `OVERLOADED_BY`."""
        _check_index("task", task_index, self.tasks)
        return self._part(_ROW_WORDS * self.lanes + _COUNTER_WORDS * task_index, _COUNTER_WORDS)

    def histograms(self, task_index: int) -> tuple[memoryview, ...]:
        """The words of a task's histograms, in the order of `LATENCIES`."""
        _check_index("task", task_index, self.tasks)
        return self._histograms(1 + task_index)

    def overall_histograms(self) -> tuple[memoryview, ...]:
        """The words of the histograms over all tasks, in the order of `LATENCIES`."""
        return self._histograms(0)

    def _histograms(self, place: int) -> tuple[memoryview, ...]:
        offset = _ROW_WORDS * self.lanes + _COUNTER_WORDS * self.tasks + _LATENCY_WORDS * place
        return tuple(self._part(offset + HISTOGRAM_WORDS * n, HISTOGRAM_WORDS) for n in range(len(LATENCIES)))

    def _part(self, offset: int, size_words: int) -> memoryview:
        return self._words[offset : offset + size_words]


class WorkerRow:
    """What the workers of one lane tell about themselves.  One writes at a time, and successors go on counting.

    The living worker is the writer: `begin` and `end`.  When it is certainly dead, and before its successor is
    started, the parent is: `died`.  All times are nanoseconds of `time.monotonic_ns`, which is one clock for all
    processes of a machine.

    Busy time is one word, so that a kill between two stores can neither lose time nor count it twice: while idle it
    is the time spent so far; while busy it is that minus the instant at which the job began, which is below zero, as
    nobody is busy for longer than the clock has run.
    """

    __slots__ = ("_words",)

    def __init__(self, words: memoryview) -> None:
        self._words = words

    def begin(self, number: int, now_ns: int) -> None:
        """Job `number` begins.  To be called before anything of the user's runs: after the worker's death
        `current_job` must tell for certain whether the job had begun."""
        words = self._words
        words[_CURRENT_BEGAN_NS] = now_ns
        words[_CURRENT_JOB] = number
        words[_BUSY] -= now_ns

    def end(self, now_ns: int) -> None:
        """The current job is over.  To be called after its answer has been sent: a worker that dies in between is
        said to have died in this job, and the parent knows whether the answer had arrived."""
        words = self._words
        words[_BUSY] += now_ns
        words[_JOBS] += 1

    def ran(self, run_ns: int) -> None:
        """A job is over, which took so long.  For the parent of a worker that has no shared memory, and then only."""
        words = self._words
        words[_BUSY] += run_ns
        words[_JOBS] += 1

    def died(self, now_ns: int) -> int:
        """The worker is dead: ends its busy time, and returns the number of the job that had begun last, 0 for none."""
        words = self._words
        number = words[_CURRENT_JOB]
        if words[_BUSY] < 0:
            words[_BUSY] += now_ns
        words[_CURRENT_JOB] = 0
        return number

    @property
    def current_job(self) -> int:
        """Number of the job that this worker has begun last, 0 for none yet.

        It stays after the job's end: an answer that was sent may be lost, and a job without its answer must not pass
        for one that never began.
        """
        return self._words[_CURRENT_JOB]

    def busy_since_s(self) -> float | None:
        """When the job began that this worker is at, an instant of `time.monotonic`; None while it is at none."""
        words = self._words
        return words[_CURRENT_BEGAN_NS] / _NS_PER_S if words[_BUSY] < 0 else None

    @property
    def is_busy(self) -> bool:
        """Whether a job runs.  Still so after a death in a job, until `died`."""
        return self._words[_BUSY] < 0

    @property
    def jobs(self) -> int:
        """How many jobs were ended by workers of this lane."""
        return self._words[_JOBS]

    def busy_ns(self) -> int:
        """Time spent in jobs, the current one included, up to this moment.  Never goes back."""
        busy = self._words[_BUSY]
        # The clock is read after the word: a job that begins in between must not make the difference negative.
        return busy if busy >= 0 else busy + time.monotonic_ns()


def _check_index(thing: str, index: int, count: int) -> None:
    if not 0 <= index < count:
        raise IndexError(f"{thing} {index} of {count}")
