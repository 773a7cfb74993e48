"""How long jobs take: moving estimates of each task's run time.

Lives here: what is learnt from every run, and what is assumed of a task that never ran.  Tasks differ by orders of
magnitude, so nothing is shared between them.  The scheduler records; admission, the queue and prefetch read.
"""

from __future__ import annotations

from typing import Final

# Weight of the newest run time in a task's moving mean: about the last twenty jobs count.
_NEWEST_WEIGHT: Final = 0.05
# How far one run moves the typical run time.  It settles where as many runs are longer as shorter: at the median.
_TYPICAL_STEP: Final = 1.1
# A task that never ran: the middle, by orders of magnitude, of what people run (a millisecond to ten seconds).
UNKNOWN_S: Final = 0.1


class RunTimes:
    """For each task, by its index, two figures in seconds.

    The mean says how much work so many jobs are.  The typical run time, about the median, says whether one job fits
    into a budget: where most jobs take a millisecond and one in a hundred takes ten seconds, the mean fits nobody.
    """

    def __init__(self) -> None:
        self._mean_s: dict[int, float] = {}
        self._typical_s: dict[int, float] = {}
        self._printing: set[int] = set()

    def expected_s(self, task_index: int) -> float:
        """The mean; of a task that never ran a cautious guess."""
        return self._mean_s.get(task_index, UNKNOWN_S)

    def typical_s(self, task_index: int) -> float:
        """What a job needs at the least to have a fair chance; nothing for a task that never ran: let it try."""
        return self._typical_s.get(task_index, 0.0)

    def has_printed(self, task_index: int) -> None:
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
        """A run that was stopped after `run_s`: news only if it was expected to take less.

        Without it, a task of which every job runs into its limit would be expected to take no time for ever.
        """
        mean_s = self._mean_s.get(task_index)
        if mean_s is None or run_s > mean_s:
            self.record(task_index, run_s)
