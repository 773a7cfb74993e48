"""Fairness between clients and tasks of one urgency."""

from __future__ import annotations

from collections.abc import Iterator

from offload.core.job import Job
from offload.core.queue.fair_queue import FairQueue
from offload.core.queue.running_limits import RunningLimits
from offload.core.request import TaskLimits
from offload.core.run_times import RunTimes
from tests.unit.core.stage import TASK, new_job

LONG = TaskLimits(name="long", index=1, timeout_s=60.0)
LIMITED = TaskLimits(name="limited", index=2, timeout_s=60.0, max_running=1)


class Queue:
    """A `FairQueue` with a task of a millisecond, one of ten seconds, and one with a limit on running jobs."""

    def __init__(self, running_limits: RunningLimits | None = None) -> None:
        times = RunTimes()
        times.record(TASK.index, 0.001)
        times.record(LONG.index, 10.0)
        times.record(LIMITED.index, 0.001)
        self.running_limits = running_limits or RunningLimits()
        self.queue = FairQueue(self.running_limits, times)

    def push(self, client: str, limits: TaskLimits = TASK, count: int = 1) -> list[Job]:
        jobs = [new_job(client=client, limits=limits) for _ in range(count)]
        for job in jobs:
            self.queue.push(job)
        self.queue.check_invariants()
        return jobs

    def served(self, count: int = 10_000) -> Iterator[Job]:
        for _ in range(count):
            job = self.queue.first()
            if job is None:
                break
            assert self.queue.first() is job
            self.queue.take_turn(job)
            yield job
        self.queue.check_invariants()


def test_the_jobs_of_one_client_are_served_in_order_of_arrival() -> None:
    queue = Queue()
    jobs = queue.push("one", count=5)
    assert list(queue.served()) == jobs


def test_short_jobs_wait_for_one_long_job_of_another_client_and_not_for_a_thousand() -> None:
    queue = Queue()
    queue.push("greedy", LONG, count=1000)
    list(queue.served(3))
    short = queue.push("modest", count=3)
    served = list(queue.served(4))
    assert sum(job.client == "greedy" for job in served) <= 1
    assert [job for job in served if job.client == "modest"] == short


def test_clients_share_run_time_and_not_numbers_of_jobs() -> None:
    """For each long job of one client, the other gets as much run time of short ones."""
    queue = Queue()
    queue.push("long", LONG, count=3)
    queue.push("short", count=25_000)
    first_long, second_long = [n for n, job in enumerate(queue.served(25_000)) if job.client == "long"][:2]
    assert 9_000 <= second_long - first_long <= 11_000


def test_clients_with_equal_jobs_take_turns_of_a_few_jobs() -> None:
    queue = Queue()
    for client in ("a", "b", "c"):
        queue.push(client, count=200)
    served = [job.client for job in queue.served(300)]
    assert all(80 <= served.count(client) <= 120 for client in ("a", "b", "c"))
    longest = max(len(run) for run in "".join(served).replace("b", " ").replace("c", " ").split())
    assert longest <= 11


def test_a_client_that_was_alone_has_no_debt() -> None:
    queue = Queue()
    queue.push("early", LONG, count=10)
    list(queue.served(8))
    queue.push("late", LONG, count=10)
    served = [job.client for job in queue.served(4)]
    assert served.count("early") == 2


def test_a_removed_job_costs_its_client_nothing() -> None:
    queue = Queue()
    first, second = queue.push("one", count=2)
    queue.queue.remove(first)
    queue.queue.check_invariants()
    assert list(queue.served()) == [second]


def test_the_tasks_of_one_client_take_turns() -> None:
    """Behind a proxy all callers may be one client."""
    queue = Queue()
    queue.push("proxy", LONG, count=1000)
    list(queue.served(3))
    short = queue.push("proxy", count=3)
    served = list(queue.served(4))
    assert [job for job in served if job.limits is TASK] == short


def test_other_tasks_pass_a_task_at_its_limit() -> None:
    queue = Queue()
    limited = queue.push("one", LIMITED, count=2)
    (other,) = queue.push("one")
    queue.running_limits.enter(new_job(limits=LIMITED))
    assert list(queue.served()) == [other]
    queue.running_limits.leave(new_job(limits=LIMITED))
    assert list(queue.served()) == limited


def test_a_client_at_a_limit_saves_up_no_credit() -> None:
    queue = Queue()
    queue.running_limits.enter(new_job(limits=LIMITED))
    queue.push("blocked", LIMITED, count=100)
    queue.push("free", count=400)
    list(queue.served(200))
    queue.running_limits.leave(new_job(limits=LIMITED))
    served = [job.client for job in queue.served(40)]
    assert served.count("free") >= 15


def test_a_client_at_its_limit_of_running_jobs_is_not_served() -> None:
    queue = Queue(RunningLimits(max_running_per_client=1))
    queue.push("one", count=3)
    queue.running_limits.enter(new_job(client="one"))
    assert list(queue.served()) == []
    (job,) = queue.push("other")
    assert list(queue.served()) == [job]
