"""How long jobs take: moving estimates of each task's run time.

Tasks differ by orders of magnitude, so no estimate is shared between them.
"""

from __future__ import annotations

from typing import Final

# Weight of the newest run time in a task's moving mean: about the last twenty jobs count.
_NEWEST_WEIGHT: Final = 0.05
# One run moves the typical run time by this factor, up or down. So it settles at the median.
_TYPICAL_STEP: Final = 1.1
# For a task that never ran: in orders of magnitude, the middle of what people run (a millisecond to ten seconds).
UNKNOWN_S: Final = 0.1


class RunTimes:
    """For each task, by index, two figures in seconds.

    The mean says how much work a number of jobs is. The typical run time, about the median, says whether one job fits
    into a budget: where most jobs take a millisecond and one in a hundred takes ten seconds, the mean fits no job.
    """

    def __init__(self) -> None:
        self._mean_s: dict[int, float] = {}
        self._typical_s: dict[int, float] = {}
        self._printing: set[int] = set()

    def expected_s(self, task_index: int) -> float:
        """Returns the mean, a cautious guess for a task that never ran."""
        return self._mean_s.get(task_index, UNKNOWN_S)

    def typical_s(self, task_index: int) -> float:
        """Returns the time that a job needs for a fair chance; 0 for a task that never ran, so that it is tried."""
        return self._typical_s.get(task_index, 0.0)

    def note_printed(self, task_index: int) -> None:
        """Jobs of this task print."""
        self._printing.add(task_index)

    def is_quiet_and_below(self, task_index: int, below_s: float) -> bool:
        """Whether the task is known to take less, and has never printed."""
        mean_s = self._mean_s.get(task_index)
        return mean_s is not None and mean_s < below_s and task_index not in self._printing

    def record(self, task_index: int, run_s: float) -> None:
        mean_s = self._mean_s.get(task_index)
        if mean_s is None:
            self._mean_s[task_index] = self._typical_s[task_index] = run_s
            return
        self._mean_s[task_index] = mean_s + _NEWEST_WEIGHT * (run_s - mean_s)
        if run_s > self._typical_s[task_index]:
            self._typical_s[task_index] *= _TYPICAL_STEP
        else:
            self._typical_s[task_index] /= _TYPICAL_STEP

    def record_at_least(self, task_index: int, run_s: float) -> None:
        """Record a run that was stopped after `run_s`, if it was expected to take less.

        Otherwise a task whose jobs all reach their timeout would be expected to take no time forever.
        """
        mean_s = self._mean_s.get(task_index)
        if mean_s is None or run_s > mean_s:
            self.record(task_index, run_s)
