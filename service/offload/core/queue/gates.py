"""Who may run one more job: limits on how many jobs of a task, and of a caller, run at once.

Lives here: the count of what slots hold.  A job counts from the moment in which a slot is given it until its work is
really over, also when it was told its end before.  `slots` counts, the queue and the scheduler ask.
"""

from __future__ import annotations

from collections import Counter

from offload.core.job import Job
from offload.core.request import TaskLimits


class Gates:
    """`max_running_per_client`: how many jobs of one caller may run at once, 0 for no limit."""

    def __init__(self, *, max_running_per_client: int = 0) -> None:
        self.max_running_per_client = max_running_per_client
        self._of_task: Counter[int] = Counter()
        self._of_client: Counter[str] = Counter()

    def is_open(self, limits: TaskLimits) -> bool:
        """Whether one more job of the task may run."""
        return not limits.max_running or self._of_task[limits.index] < limits.max_running

    def is_open_for(self, client: str) -> bool:
        """Whether one more job of this caller may run."""
        return not self.max_running_per_client or self._of_client[client] < self.max_running_per_client

    def running(self, limits: TaskLimits) -> int:
        """How many jobs run of a task that has a limit on them."""
        return self._of_task[limits.index]

    def may_run(self, limits: TaskLimits, client: str) -> bool:
        """Both; asked for every job, of which few have such a limit."""
        if limits.max_running and not self.is_open(limits):
            return False
        return not self.max_running_per_client or self.is_open_for(client)

    def enter(self, job: Job) -> None:
        """A slot was given the job."""
        if job.limits.max_running:
            self._of_task[job.limits.index] += 1
        if self.max_running_per_client:
            self._of_client[job.client] += 1

    def leave(self, job: Job) -> None:
        """The slot has it no more."""
        if job.limits.max_running:
            self._of_task[job.limits.index] -= 1
        if self.max_running_per_client:
            self._of_client[job.client] -= 1
            if not self._of_client[job.client]:
                del self._of_client[job.client]  # callers come and go; what is kept follows those who are here

    def check_invariants(self, held: list[Job]) -> None:
        """`held` are all jobs that slots have.  Raises AssertionError."""
        tasks = Counter(job.limits.index for job in held if job.limits.max_running)
        assert +self._of_task == tasks, f"running by task is {tasks}, counted as {self._of_task}"
        for job in held:
            limit = job.limits.max_running
            assert not limit or tasks[job.limits.index] <= limit, f"more than {limit} jobs of {job.limits.name} run"
        if self.max_running_per_client:
            clients = Counter(job.client for job in held)
            assert self._of_client == clients, f"running by caller is {clients}, counted as {self._of_client}"
            assert max(clients.values(), default=0) <= self.max_running_per_client, "too many jobs of one caller run"
