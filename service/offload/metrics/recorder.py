"""Count jobs and their latencies in the shared memory.

A job is counted when it is submitted and when its outcome is settled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ctypes import c_longlong
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from offload.core.job import END_STATE, Job
from offload.core.outcome import OverloadCause, Reason
from offload.errors import IllegalStep
from offload.metrics.histogram import Histogram, MergedHistogram, Summary
from offload.metrics.layout import JOB_COUNTERS, JobCounts, MetricsMemory

_US_PER_S: Final = 1e6
# Counting latencies together costs a third; counting this many takes a tenth of a millisecond.
_MAX_RECENT: Final = 64

_SUBMITTED: Final = JOB_COUNTERS.index("submitted")
_WORD_OF_END: Final[Mapping[Reason, int]] = {reason: JOB_COUNTERS.index(state) for reason, state in END_STATE.items()}


@dataclass(frozen=True, kw_only=True)
class Latencies:
    """The summaries of queue, run and response times."""

    queue: Summary
    run: Summary
    response: Summary


class _TaskMeters(NamedTuple):
    """The counters and histograms of a task.

    `recent` holds the latencies that are not yet in a histogram, in seconds: queue time, run time (None if the job
    never ran) and response time of each job.
    """

    counters: memoryview
    queue: Histogram
    run: Histogram
    response: Histogram
    recent: list[tuple[float, float | None, float]]

    @classmethod
    def of(cls, memory: MetricsMemory, task_index: int) -> Self:
        queue, run, response = map(Histogram, memory.histograms(task_index))
        return cls(memory.counters(task_index), queue, run, response, [])


class Recorder:
    """Writes the counters and histograms of `memory`. `task_names` are in the order of the tasks' indices."""

    def __init__(self, memory: MetricsMemory, task_names: Sequence[str]) -> None:
        self.task_names = tuple(task_names)
        self._rejections = memory.rejections
        self._overloaded_by: Mapping[object, c_longlong] = {
            cause: memory.overloaded_by[cause] for cause in OverloadCause
        }
        self._tasks = [_TaskMeters.of(memory, index) for index in range(len(self.task_names))]
        queue, run, response = memory.overall_histograms()
        self._queue = MergedHistogram(queue, [task.queue for task in self._tasks])
        self._run = MergedHistogram(run, [task.run for task in self._tasks])
        self._response = MergedHistogram(response, [task.response for task in self._tasks])

    # For every job

    def count_submission(self, task_index: int) -> None:
        """Count a job that was submitted, whether it is admitted or rejected."""
        self._tasks[task_index].counters[_SUBMITTED] += 1

    def count_outcome(self, job: Job) -> None:
        """Count a settled job. A rejected job has no latency, and one that never ran has no run time."""
        outcome, finished_at, wait_s = job.outcome, job.finished_at, job.wait_s
        if outcome is None or finished_at is None or wait_s is None:
            raise IllegalStep(thing=f"job {job.id}", state=job.state, event="count its outcome")
        task = self._tasks[job.limits.index]
        reason = outcome.reason
        task.counters[_WORD_OF_END[reason]] += 1
        if reason in self._rejections:
            self._rejections[reason].value += 1
            if reason is Reason.OVERLOADED:
                self._overloaded_by[outcome.facts["cause"]].value += 1
            return
        task.recent.append((wait_s, job.run_s, finished_at - job.submitted_at))
        if len(task.recent) >= _MAX_RECENT:
            self._flush(task)

    # For readers

    def counters(self, task_index: int) -> list[int]:
        """Returns the counters of a task, in the order of `JOB_COUNTERS`."""
        return self._tasks[task_index].counters[: len(JOB_COUNTERS)].tolist()

    def total_counters(self) -> list[int]:
        """Returns the sums over all tasks, in the order of `JOB_COUNTERS`."""
        return list(map(sum, zip(*map(self.counters, range(len(self._tasks))), strict=True)))

    @property
    def totals(self) -> JobCounts:
        """The sums over all tasks."""
        return JobCounts(*self.total_counters())

    def rejections(self) -> dict[str, int]:
        """Returns the number of rejected jobs by reason."""
        return {reason: counter.value for reason, counter in self._rejections.items()}

    def overloaded_by(self) -> dict[str, int]:
        """Returns the number of jobs rejected as overloaded by cause. They add up to that reason's number."""
        return {str(cause): counter.value for cause, counter in self._overloaded_by.items()}

    def latencies(self, task_index: int) -> Latencies:
        """Returns the latencies of one task."""
        task = self._tasks[task_index]
        self._flush(task)
        return Latencies(queue=task.queue.summary(), run=task.run.summary(), response=task.response.summary())

    def overall_latencies(self) -> Latencies:
        """Returns the latencies of all tasks together."""
        for task in self._tasks:
            self._flush(task)
        return Latencies(queue=self._queue.summary(), run=self._run.summary(), response=self._response.summary())

    def _flush(self, task: _TaskMeters) -> None:
        """Count the recent latencies in the histograms."""
        if not task.recent:
            return
        waits_s, runs_s, responses_s = zip(*task.recent, strict=True)
        task.recent.clear()
        self._queue.count(task.queue.record_all(_whole_us(waits_s)))
        self._response.count(task.response.record_all(_whole_us(responses_s)))
        measured_s = [run_s for run_s in runs_s if run_s is not None]
        if measured_s:
            self._run.count(task.run.record_all(_whole_us(measured_s)))


def _whole_us(latencies_s: Iterable[float]) -> list[int]:
    return [int(latency_s * _US_PER_S) for latency_s in latencies_s]
