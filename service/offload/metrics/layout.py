"""Where each number lies in shared memory, and who writes it.

The service makes one `MetricsMemory` before its first worker and passes the worker rows to every process. Scalars of
the whole service are `multiprocessing.Value`s, rows are parts of `multiprocessing.Array`s. All are signed 8-byte
integers without a lock: a process killed while it holds a lock would block every other.

    what            size                                                                  writer
    state           a Value: the position in `ServiceState`                               the service
    rejections      a Value for each name of `REJECTIONS`                                 the service
    overloaded_by   a Value for each `OverloadCause`                                      the service
    counter rows    8 words for each task                                                 the service
    histograms      2988 words for all tasks together, then 2988 for each task:           the service
                    queue, run, response
    worker rows     16 words for each lane                                                the lane's worker

    counter row     0 … 6 `JOB_COUNTERS`   7 free
    worker row      0 busy, ns   1 jobs   2 current job   3 its begin, ns   4 … 15 free

Two worker rows have 96 unused bytes between them, so they never share a cache line of 64 bytes, wherever the array
begins. Rows are read and written through a `memoryview`: it takes a row out of an array without a copy, and stores a
word slightly faster than ctypes does.

No read is torn: an aligned load or store of 8 bytes is one access on x86-64 and ARM64 (Intel 64 and IA-32
Architectures Software Developer's Manual, volume 3A, "Guaranteed Atomic Operations"; Arm Architecture Reference
Manual, "Single-copy atomicity"), and CPython moves an item of this size with a `memcpy` of constant length, which is
one such access. Several words are not read at one moment: the order of the stores makes each number right by itself.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping
from ctypes import c_longlong
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

from offload.core.outcome import OverloadCause
from offload.metrics.arena import memory_without_files
from offload.metrics.histogram import HISTOGRAM_WORDS

REJECTIONS: Final = ("overloaded", "client-queue-full", "rate-limited", "quarantined", "draining", "starting")
LATENCIES: Final = ("queue", "run", "response")

_WORKER_WORDS: Final = 16
_COUNTER_WORDS: Final = 8
_LATENCY_WORDS: Final = len(LATENCIES) * HISTOGRAM_WORDS

_BUSY: Final = 0
_JOBS: Final = 1
_CURRENT_JOB: Final = 2
_CURRENT_BEGAN_NS: Final = 3

_NS_PER_S: Final = 1e9

# A context of its own: `multiprocessing.Array` itself would fix the start method of the whole process.
_CONTEXT: Final = multiprocessing.get_context("spawn")


class ServiceState(StrEnum):
    """Whether a job sent now would be accepted, or the reason for which it would be rejected."""

    STARTING = "starting"
    READY = "ready"
    OVERLOADED = "overloaded"
    DRAINING = "draining"


_STATES: Final = tuple(ServiceState)


@dataclass(frozen=True)
class JobCounts:
    """Jobs that were submitted, and how they ended. The fields are the first words of a counter row, in their order."""

    submitted: int
    succeeded: int
    failed: int
    timed_out: int
    cancelled: int
    crashed: int
    rejected: int

    @property
    def ended(self) -> int:
        """Admitted jobs that have finished, with any outcome. Rejected jobs are not counted."""
        return self.succeeded + self.failed + self.timed_out + self.cancelled + self.crashed


JOB_COUNTERS: Final = tuple(field.name for field in fields(JobCounts))


class WorkerRows:
    """The rows of all lanes.

    An argument of a `multiprocessing.Process` of any start method; pickles only as one.
    """

    __slots__ = ("_array", "_words", "lanes")

    def __init__(self, lanes: int) -> None:
        self.__setstate__((lanes, _array(_WORKER_WORDS * lanes)))

    def __getstate__(self) -> tuple[int, Any]:
        return self.lanes, self._array

    def __setstate__(self, state: tuple[int, Any]) -> None:
        self.lanes, self._array = state
        self._words = _words_of(self._array)

    def worker_row(self, lane: int) -> WorkerRow:
        _check_index("lane", lane, self.lanes)
        return WorkerRow(_row(self._words, lane, _WORKER_WORDS))


class MetricsMemory:
    """All shared numbers of a service with `tasks` tasks and `lanes` lanes; zero at first."""

    def __init__(self, *, tasks: int, lanes: int) -> None:
        self.tasks = tasks
        with memory_without_files():
            self._allocate(tasks, lanes)

    def _allocate(self, tasks: int, lanes: int) -> None:
        self.workers = WorkerRows(lanes)
        self.rejections: Mapping[str, c_longlong] = {reason: _scalar() for reason in REJECTIONS}
        self.overloaded_by: Mapping[OverloadCause, c_longlong] = {cause: _scalar() for cause in OverloadCause}
        self._state = _scalar()
        self._counters = _words_of(_array(_COUNTER_WORDS * tasks))
        self._histograms = _words_of(_array(_LATENCY_WORDS * (1 + tasks)))

    @property
    def state(self) -> ServiceState:
        return _STATES[self._state.value]

    @state.setter
    def state(self, state: ServiceState) -> None:
        self._state.value = _STATES.index(state)

    def counters(self, task_index: int) -> memoryview:
        """The words of a task's counters: `JOB_COUNTERS`."""
        _check_index("task", task_index, self.tasks)
        return _row(self._counters, task_index, _COUNTER_WORDS)

    def histograms(self, task_index: int) -> tuple[memoryview, ...]:
        """The words of a task's histograms, in the order of `LATENCIES`."""
        _check_index("task", task_index, self.tasks)
        return self._histograms_at(1 + task_index)

    def overall_histograms(self) -> tuple[memoryview, ...]:
        """The words of the histograms over all tasks, in the order of `LATENCIES`."""
        return self._histograms_at(0)

    def _histograms_at(self, position: int) -> tuple[memoryview, ...]:
        words = _row(self._histograms, position, _LATENCY_WORDS)
        return tuple(_row(words, n, HISTOGRAM_WORDS) for n in range(len(LATENCIES)))


def _scalar() -> c_longlong:
    scalar: c_longlong = _CONTEXT.Value("q", 0, lock=False)
    return scalar


def _array(size_words: int) -> Any:
    return _CONTEXT.Array("q", size_words, lock=False)


def _words_of(array: Any) -> memoryview:
    # A ctypes array calls its format "<q", which a memoryview does not index; "q" is the same on little-endian CPUs.
    return memoryview(array).cast("B").cast("q")


def _row(words: memoryview, index: int, size_words: int) -> memoryview:
    return words[index * size_words : (index + 1) * size_words]


def _check_index(thing: str, index: int, count: int) -> None:
    if not 0 <= index < count:
        raise IndexError(f"{thing} {index} of {count}")


class WorkerRow:
    """What the workers of one lane report about themselves. A lane's next worker continues the counts.

    The living worker writes with `begin` and `end`. After its death, and before its successor starts, the parent
    writes with `died`. All times are nanoseconds of `time.monotonic_ns`, one clock for all processes of a machine.

    Busy time is a single word, so that a kill between two stores can neither lose time nor count it twice. While idle
    it is the time spent so far. While busy it is that minus the instant at which the job began, which is negative:
    no worker has been busy for longer than the clock has run.
    """

    __slots__ = ("_words",)

    def __init__(self, words: memoryview) -> None:
        self._words = words

    def begin(self, number: int, now_ns: int) -> None:
        """Record that job `number` begins.

        Call it before any code of the user runs: after the worker's death `current_job` must show whether the job had
        begun.
        """
        words = self._words
        words[_CURRENT_BEGAN_NS] = now_ns
        words[_CURRENT_JOB] = number
        words[_BUSY] -= now_ns

    def end(self, now_ns: int) -> None:
        """Record that the current job has ended.

        Call it after the answer was sent: a worker that dies in between counts as having died in this job, and the
        parent knows whether the answer had arrived.
        """
        words = self._words
        words[_BUSY] += now_ns
        words[_JOBS] += 1

    def ran(self, run_ns: int) -> None:
        """Record a whole job. Only for the parent of a worker without shared memory."""
        words = self._words
        words[_BUSY] += run_ns
        words[_JOBS] += 1

    def died(self, now_ns: int) -> int:
        """End the busy time of a dead worker. Returns the number of the job that began last, 0 if none did."""
        words = self._words
        number = words[_CURRENT_JOB]
        if words[_BUSY] < 0:
            words[_BUSY] += now_ns
        words[_CURRENT_JOB] = 0
        return number

    @property
    def current_job(self) -> int:
        """The number of the job that this worker began last, 0 if none.

        It stays after the job's end: an answer that was sent may be lost, and a job without its answer must not look
        like one that never began.
        """
        return self._words[_CURRENT_JOB]

    def busy_since_s(self) -> float | None:
        """Returns when the running job began, an instant of `time.monotonic`; None while idle."""
        words = self._words
        return words[_CURRENT_BEGAN_NS] / _NS_PER_S if words[_BUSY] < 0 else None

    @property
    def is_busy(self) -> bool:
        """Whether a job runs. Stays true after a death in a job, until `died`."""
        return self._words[_BUSY] < 0

    @property
    def jobs(self) -> int:
        """The number of jobs that workers of this lane have ended."""
        return self._words[_JOBS]

    def busy_ns(self) -> int:
        """Returns the time spent in jobs up to now, including the current one. Never decreases."""
        busy = self._words[_BUSY]
        # The clock is read after the word, so that a job that begins in between cannot make the result negative.
        return busy if busy >= 0 else busy + time.monotonic_ns()
