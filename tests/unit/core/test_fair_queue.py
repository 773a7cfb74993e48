"""The turns of callers who wait in one line."""

from __future__ import annotations

from collections.abc import Iterator

from offload.core.job import Job
from offload.core.queue.fair_queue import FairQueue
from offload.core.queue.running_limits import RunningLimits
from offload.core.request import TaskLimits
from offload.core.run_times import RunTimes
from tests.unit.core.stage import TASK, new_job

LONG = TaskLimits(name="long", index=1, timeout_s=60.0)
GATED = TaskLimits(name="gated", index=2, timeout_s=60.0, max_running=1)


class Line:
    """One with tasks of which the first takes a millisecond and the second ten seconds."""

    def __init__(self, running_limits: RunningLimits | None = None) -> None:
        times = RunTimes()
        times.record(TASK.index, 0.001)
        times.record(LONG.index, 10.0)
        times.record(GATED.index, 0.001)
        self.running_limits = running_limits or RunningLimits()
        self.line = FairQueue(self.running_limits, times)

    def push(self, client: str, limits: TaskLimits = TASK, count: int = 1) -> list[Job]:
        jobs = [new_job(client=client, limits=limits) for _ in range(count)]
        for job in jobs:
            self.line.push(job)
        self.line.check_invariants()
        return jobs

    def served(self, count: int = 10_000) -> Iterator[Job]:
        for _ in range(count):
            job = self.line.first()
            if job is None:
                break
            assert self.line.first() is job
            self.line.take_turn(job)
            yield job
        self.line.check_invariants()


def test_one_caller_is_served_as_it_came() -> None:
    line = Line()
    jobs = line.push("one", count=5)
    assert list(line.served()) == jobs


def test_short_jobs_of_another_wait_for_one_long_one_and_not_for_a_thousand() -> None:
    line = Line()
    line.push("greedy", LONG, count=1000)
    list(line.served(3))
    short = line.push("modest", count=3)
    served = list(line.served(4))
    assert sum(job.client == "greedy" for job in served) <= 1
    assert [job for job in served if job.client == "modest"] == short


def test_callers_share_time_and_not_numbers_of_jobs() -> None:
    """While one long job runs, the other caller gets through as many short ones as take as long."""
    line = Line()
    line.push("long", LONG, count=3)
    line.push("short", count=25_000)
    first_long, second_long = [n for n, job in enumerate(line.served(25_000)) if job.client == "long"][:2]
    assert 9_000 <= second_long - first_long <= 11_000


def test_callers_alike_take_turns_of_a_few_jobs() -> None:
    line = Line()
    for client in ("a", "b", "c"):
        line.push(client, count=200)
    served = [job.client for job in line.served(300)]
    assert all(80 <= served.count(client) <= 120 for client in ("a", "b", "c"))
    longest = max(len(run) for run in "".join(served).replace("b", " ").replace("c", " ").split())
    assert longest <= 11


def test_who_was_alone_owes_nothing_for_it() -> None:
    line = Line()
    line.push("early", LONG, count=10)
    list(line.served(8))
    line.push("late", LONG, count=10)
    served = [job.client for job in line.served(4)]
    assert served.count("early") == 2


def test_a_job_that_is_taken_out_costs_its_caller_nothing() -> None:
    line = Line()
    first, second = line.push("one", count=2)
    line.line.remove(first)
    line.line.check_invariants()
    assert list(line.served()) == [second]


def test_the_tasks_of_one_caller_take_turns_too() -> None:
    """Behind a proxy everybody may be one caller."""
    line = Line()
    line.push("proxy", LONG, count=1000)
    list(line.served(3))
    short = line.push("proxy", count=3)
    served = list(line.served(4))
    assert [job for job in served if job.limits is TASK] == short


def test_at_a_closed_gate_a_callers_other_jobs_pass() -> None:
    line = Line()
    gated = line.push("one", GATED, count=2)
    (other,) = line.push("one")
    line.running_limits.enter(new_job(limits=GATED))
    assert list(line.served()) == [other]
    line.running_limits.leave(new_job(limits=GATED))
    assert list(line.served()) == gated


def test_a_caller_who_waits_at_a_gate_saves_up_nothing() -> None:
    line = Line()
    line.running_limits.enter(new_job(limits=GATED))
    line.push("blocked", GATED, count=100)
    line.push("free", count=400)
    list(line.served(200))
    line.running_limits.leave(new_job(limits=GATED))
    served = [job.client for job in line.served(40)]
    assert served.count("free") >= 15


def test_of_a_caller_with_as_many_running_as_it_may_nobody_is_next() -> None:
    line = Line(RunningLimits(max_running_per_client=1))
    line.push("one", count=3)
    line.running_limits.enter(new_job(client="one"))
    assert list(line.served()) == []
    (job,) = line.push("other")
    assert list(line.served()) == [job]
