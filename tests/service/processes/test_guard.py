"""The guard process kills the workers when the service has ended, however it ended."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest

from offload.processes import guard_handle as module
from offload.processes.guard import _end_all
from offload.processes.guard_handle import GuardHandle
from offload.processes.proctree import read
from tests.service.processes.process_trees import SERVICE, are_gone, eventually, tree

MISSING_PID = 999_999_999  # higher than any process id can be
COMMAND = f"import sys; sys.path.insert(0, {str(SERVICE)!r}); from offload.processes.guard import main; main"


@pytest.fixture
def mark() -> str:
    return f"OFFLOAD_TEST_MARK={secrets.token_hex(8)}"


@contextmanager
def guard(mark: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", f"{COMMAND}(sys.argv[1])", mark], stdin=subprocess.PIPE, bufsize=0
    ) as process:
        yield process
        process.kill()


def announce(process: subprocess.Popen[bytes], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())


def end_service(process: subprocess.Popen[bytes]) -> int:
    """Closes the pipe, as the end of the service does."""
    assert process.stdin is not None
    process.stdin.close()
    return process.wait(30)


def test_announced_workers_are_killed_with_their_descendants(mark: str) -> None:
    with guard(mark) as one, tree("child('a', session=True); sleep()", count=2) as worker:
        announce(one, f"+{worker.root}")
        assert end_service(one) == 0
        assert are_gone(list(worker.pids.values()))


def test_a_worker_that_has_ended_is_forgotten(mark: str) -> None:
    with guard(mark) as one, tree("child('a'); sleep()", count=2) as worker:
        announce(one, f"+{worker.root}")
        announce(one, f"-{worker.root}")
        assert end_service(one) == 0
        assert not any(are_gone([pid]) for pid in worker.pids.values())


def test_unannounced_processes_are_found_by_their_mark(mark: str) -> None:
    """A worker that was being started, a grandchild that has lost its parents."""
    env = dict([mark.split("=")])
    with guard(mark) as one, tree("child('a', session=True); os._exit(0)", count=2, env=env) as lost:
        lost.process.wait()
        assert end_service(one) == 0
        assert are_gone([lost.pids["a"]])


@pytest.mark.parametrize(("ticks_before", "is_ended"), [(0, True), (1, False)], ids=["the worker", "a later process"])
def test_a_later_process_with_the_id_of_a_worker_is_spared(mark: str, ticks_before: int, is_ended: bool) -> None:
    """An id cannot be reused on demand, so this changes the start time of the worker with that id."""
    with tree("sleep()", count=1) as one:
        info = read(one.root)
        assert info is not None
        _end_all({one.root: info.start_ticks - ticks_before}, mark.encode())
        assert are_gone([one.root]) == is_ended


def test_a_worker_that_has_ended_already_may_be_announced(mark: str) -> None:
    with guard(mark) as one, tree("sleep()", count=1) as worker:
        announce(one, f"+{MISSING_PID}")
        announce(one, f"-{MISSING_PID}")
        announce(one, f"+{worker.root}")
        assert end_service(one) == 0
        assert are_gone([worker.root])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_group_does_not_end_the_guard(mark: str, number: signal.Signals) -> None:
    with guard(mark) as one, tree("sleep()", count=1) as worker:
        announce(one, f"+{worker.root}")
        eventually("it listens", lambda: is_ignored(one.pid, number))
        one.send_signal(number)
        assert end_service(one) == 0
        assert are_gone([worker.root])


def is_ignored(pid: int, number: int) -> bool:
    with open(f"/proc/{pid}/status") as file:
        mask = next(int(line.split()[1], 16) for line in file if line.startswith("SigIgn:"))
    return bool(mask & 1 << (number - 1))


# The service's side: `GuardHandle`


async def test_closing_ends_the_guard(mark: str) -> None:
    handle = GuardHandle(mark)
    pid = handle.pid
    assert not are_gone([pid])
    await handle.close()
    await handle.close()
    assert are_gone([pid])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_dead_guard_is_replaced_by_one_that_knows_the_workers(
    mark: str, number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with tree("child('a'); sleep()", count=2) as worker, tree("sleep()", count=1) as forgotten:
        handle = GuardHandle(mark)
        try:
            handle.watch(worker.root)
            handle.watch(forgotten.root)
            first = handle.pid
            os.kill(first, number)
            async with asyncio.timeout(30):
                while handle.pid == first:
                    await asyncio.sleep(0.005)
            handle.forget(forgotten.root)
            assert "guard process ended" in caplog.text
        finally:
            await handle.close()
        assert are_gone(list(worker.pids.values()))
        assert not are_gone([forgotten.root])


@pytest.mark.parametrize("what", ["the process", "its pipe"])
async def test_a_guard_that_cannot_be_replaced_now_is_replaced_later(
    what: str, mark: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Until then the log says that workers are unguarded; none of them is killed."""
    fail, _ = failing()
    loop = asyncio.get_running_loop()
    with tree("sleep()", count=1) as worker:
        handle = GuardHandle(mark)
        try:
            handle.watch(worker.root)
            first = handle.pid
            with monkeypatch.context() as patched:
                if what == "the process":
                    patched.setattr(subprocess, "Popen", fail)
                else:
                    patched.setattr(loop, "add_reader", fail)
                os.kill(first, signal.SIGKILL)
                async with asyncio.timeout(30):
                    while "guard process could not be started" not in caplog.text:
                        await asyncio.sleep(0.005)
                last = handle.pid
                assert are_gone([last])
            async with asyncio.timeout(30):
                while handle.pid == last:
                    await asyncio.sleep(0.005)
            assert not are_gone([worker.root, handle.pid])
        finally:
            await handle.close()
        assert are_gone([worker.root])


async def test_closing_ends_the_attempts_to_start_a_guard(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TRY_AGAIN_S", 0)
    handle = GuardHandle(mark)
    fail, errors = failing()
    monkeypatch.setattr(subprocess, "Popen", fail)
    os.kill(handle.pid, signal.SIGKILL)
    async with asyncio.timeout(30):
        while not errors:
            await asyncio.sleep(0.005)
    await handle.close()
    tries = len(errors)
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(errors) == tries


def failing() -> tuple[Callable[..., NoReturn], list[OSError]]:
    """Returns a function that fails like a system call, and the list of its errors."""
    errors: list[OSError] = []

    def fail(*_: Any, **__: Any) -> NoReturn:
        errors.append(OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)))
        raise errors[-1]

    return fail, errors


async def test_a_stopped_guard_does_not_block_the_service(mark: str) -> None:
    """When its pipe is full, it is replaced."""
    handle = GuardHandle(mark)
    try:
        first = handle.pid
        os.kill(first, signal.SIGSTOP)
        async with asyncio.timeout(60):
            while handle.pid == first:
                for _ in range(100):
                    handle.watch(MISSING_PID)
                    handle.forget(MISSING_PID)
                await asyncio.sleep(0)
        assert are_gone([first])
    finally:
        await handle.close()
