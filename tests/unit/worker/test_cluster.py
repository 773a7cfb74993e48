"""The functions that a cluster calls in its processes."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from offload.core.request import NO_HEAD
from offload.tasks.context import set_lane
from offload.tasks.targets.loading import Target
from offload.wire.spec import LoadSpec
from offload.worker.foreign import cluster, job_runner
from offload.worker.foreign.remote import PlainAnswer, pack_load, read_answer

TASKS = """
import signal
import threading
from offload import current_job, on_worker_start, task

calls = []
both = threading.Barrier(2)
may_end = threading.Barrier(3)

@on_worker_start
def begin():
    calls.append(1)

@task
def add(a: int = 0) -> int:
    return a + len(calls)

@task
def meet() -> str:
    both.wait(30)
    job = current_job()
    may_end.wait(30)
    return job.id

@task
def ending() -> str:
    return str(signal.getsignal(signal.SIGTERM))

@task
def let_them_end():
    may_end.wait(30)
"""


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes this process look like a new process of a cluster."""
    monkeypatch.setattr(cluster, "_process", cluster._Process())
    monkeypatch.setattr(job_runner, "_process", job_runner._Process())
    monkeypatch.setattr("offload.worker.start.limit_library_threads", lambda threads: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules, digits = set(sys.modules), sys.get_int_max_str_digits()
    yield
    for name in set(sys.modules) - modules:
        if name.startswith("offload.tasks.served."):
            del sys.modules[name]
    sys.set_int_max_str_digits(digits)
    set_lane(None)


@pytest.fixture
def load(tmp_path: Path) -> bytes:
    """The load of a file that does not exist on this machine."""
    target = Target(named="tasks.py", file=str(tmp_path / "away" / "tasks.py"), source=TASKS + f"# {tmp_path}")
    return pack_load(LoadSpec(targets=(target,), library_threads=1, max_body_bytes=1 << 25), is_debug=False)


def call(number: int, *, task: int = 0, body: bytes = b"", id: str = "0" * 32) -> tuple[Any, ...]:
    """Returns a job without its load."""
    return number, task, 1, 0, id, tuple(NO_HEAD), body


def result(answer: PlainAnswer | None, number: int) -> Any:
    judged = read_answer(answer, number)
    assert judged.reason == "succeeded", judged
    return orjson.loads(judged.body)


def test_a_process_runs_jobs_after_loading_the_tasks(load: bytes) -> None:
    token, pid, error = cluster.load_tasks("mine", load, 0)
    assert (pid > 1, error) == (True, "")
    assert result(cluster.run_pinned(token, "mine", "job-1", *call(7, body=b'{"a": 4}')), 7) == 5


def test_the_hooks_are_called_once_for_several_loads(load: bytes) -> None:
    for name in ("mine", "mine", "another service's"):
        token, _, _ = cluster.load_tasks(name, load, 0)
    assert result(cluster.run_pinned(token, "mine", "job-1", *call(7)), 7) == 1


def test_a_failed_load_is_reported_with_the_reason() -> None:
    target = Target(named="tasks.py", file="/away/tasks.py", source="import nowhere_to_be_found")
    load = pack_load(LoadSpec(targets=(target,), library_threads=1, max_body_bytes=1 << 25), is_debug=False)
    token, _, error = cluster.load_tasks("mine", load, 0)
    assert "nowhere_to_be_found" in error
    assert cluster.run_pinned(token, "mine", "job-1", *call(7)) is None


def test_a_job_for_another_process_or_other_tasks_is_not_begun(load: bytes) -> None:
    token, _, _ = cluster.load_tasks("mine", load, 0)
    assert cluster.run_pinned("another", "mine", "job-1", *call(7)) is None
    assert cluster.run_pinned(token, "not mine", "job-1", *call(7)) is None


def test_a_withdrawn_job_never_begins(load: bytes) -> None:
    token, _, _ = cluster.load_tasks("mine", load, 0)
    assert cluster.withdraw_pinned(token, "job-1") is True
    assert cluster.run_pinned(token, "mine", "job-1", *call(7)) is None
    assert cluster.withdraw_pinned("another", "job-2") is False


def test_old_withdrawn_jobs_are_forgotten(load: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_MAX_WITHDRAWN", 2)
    token, _, _ = cluster.load_tasks("mine", load, 0)
    for number in range(4):
        cluster.withdraw_pinned(token, f"job-{number}")
    assert list(cluster._process.withdrawn) == ["job-2", "job-3"]


def test_running_jobs_in_threads_have_their_own_current_job_and_cannot_be_withdrawn(load: bytes) -> None:
    token, _, _ = cluster.load_tasks("mine", load, 0)
    results: dict[int, Any] = {}

    def run(number: int) -> None:
        results[number] = result(
            cluster.run_pinned(token, "mine", f"job-{number}", *call(number, task=1, id=f"{number:032}")), number
        )

    threads = [threading.Thread(target=run, args=[number]) for number in (1, 2)]
    for thread in threads:
        thread.start()
    while len(cluster._process.begun) < 2 and any(thread.is_alive() for thread in threads):
        threads[0].join(0.001)
    had_begun = not cluster.withdraw_pinned(token, "job-1")
    cluster.run_pinned(token, "mine", "job-3", *call(3, task=3))
    for thread in threads:
        thread.join()
    assert had_begun
    assert results == {1: f"{1:032}", 2: f"{2:032}"}
    assert not cluster._process.begun


def test_the_tasks_are_loaded_by_the_first_job_or_before(load: bytes) -> None:
    assert result(cluster.run_anywhere(load, *call(7)), 7) == 1
    assert cluster.load_tasks("", load, 0)[2] == ""
    assert result(cluster.run_anywhere(load, *call(8)), 8) == 1


def test_sigterm_ends_the_process_instead_of_the_job(load: bytes) -> None:
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *_: None)  # as Ray does
    try:
        assert result(cluster.run_anywhere(load, *call(7, task=2)), 7) == str(signal.SIG_DFL)
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
