"""Limits on how many jobs of one task, and of one client, run at once.

A job counts from the moment a slot is given it until its work has really ended, also after it was settled.
"""

from __future__ import annotations

from collections import Counter

from offload.core.job import Job
from offload.core.request import TaskLimits


class RunningLimits:
    """`max_running_per_client`: how many jobs of one client may run at once, 0 for no limit."""

    def __init__(self, *, max_running_per_client: int = 0) -> None:
        self.max_running_per_client = max_running_per_client
        self._of_task: Counter[int] = Counter()
        self._of_client: Counter[str] = Counter()

    def allow_task(self, limits: TaskLimits) -> bool:
        """Whether one more job of the task may run."""
        return not limits.max_running or self._of_task[limits.index] < limits.max_running

    def allow_client(self, client: str) -> bool:
        """Whether one more job of this client may run."""
        return not self.max_running_per_client or self._of_client[client] < self.max_running_per_client

    def may_run(self, limits: TaskLimits, client: str) -> bool:
        """Whether both allow one more job. Called for every job, few of which have a limit."""
        if limits.max_running and not self.allow_task(limits):
            return False
        return not self.max_running_per_client or self.allow_client(client)

    def running(self, limits: TaskLimits) -> int:
        """Returns how many jobs run of a task that has a limit."""
        return self._of_task[limits.index]

    def enter(self, job: Job) -> None:
        """A slot was given the job."""
        if job.limits.max_running:
            self._of_task[job.limits.index] += 1
        if self.max_running_per_client:
            self._of_client[job.client] += 1

    def leave(self, job: Job) -> None:
        """The slot no longer holds the job."""
        if job.limits.max_running:
            self._of_task[job.limits.index] -= 1
        if self.max_running_per_client:
            self._of_client[job.client] -= 1
            if not self._of_client[job.client]:
                del self._of_client[job.client]  # clients come and go; memory is kept for present ones only

    def check_invariants(self, held: list[Job]) -> None:
        """Raises AssertionError unless `held`, all jobs in slots, are what was counted."""
        tasks = Counter(job.limits.index for job in held if job.limits.max_running)
        assert +self._of_task == tasks, f"running by task is {tasks}, counted as {self._of_task}"
        for job in held:
            limit = job.limits.max_running
            assert not limit or tasks[job.limits.index] <= limit, f"more than {limit} jobs of {job.limits.name} run"
        if self.max_running_per_client:
            clients = Counter(job.client for job in held)
            assert self._of_client == clients, f"running by client is {clients}, counted as {self._of_client}"
            assert max(clients.values(), default=0) <= self.max_running_per_client, "too many jobs of one client run"
