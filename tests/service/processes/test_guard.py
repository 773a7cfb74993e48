"""The small process that ends the workers when the service is gone, however it went."""

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

NOBODY = 999_999_999  # higher than any process id can be
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


def tell(process: subprocess.Popen[bytes], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())


def hang_up(process: subprocess.Popen[bytes]) -> int:
    """As if the service had gone."""
    assert process.stdin is not None
    process.stdin.close()
    return process.wait(30)


def test_it_ends_the_workers_that_it_was_told_of_with_their_descendants(mark: str) -> None:
    with guard(mark) as one, tree("child('a', session=True); sleep()", count=2) as worker:
        tell(one, f"+{worker.root}")
        assert hang_up(one) == 0
        assert are_gone(list(worker.pids.values()))


def test_it_leaves_alone_what_it_was_told_to_forget(mark: str) -> None:
    with guard(mark) as one, tree("child('a'); sleep()", count=2) as worker:
        tell(one, f"+{worker.root}")
        tell(one, f"-{worker.root}")
        assert hang_up(one) == 0
        assert not any(are_gone([pid]) for pid in worker.pids.values())


def test_it_finds_by_the_mark_what_nobody_told_it_of(mark: str) -> None:
    """A worker that was being born, a grandchild that lost its parents."""
    env = dict([mark.split("=")])
    with guard(mark) as one, tree("child('a', session=True); os._exit(0)", count=2, env=env) as lost:
        lost.process.wait()
        assert hang_up(one) == 0
        assert are_gone([lost.pids["a"]])


@pytest.mark.parametrize(("ticks_before", "is_ended"), [(0, True), (1, False)], ids=["the worker", "a later process"])
def test_it_does_not_take_a_later_process_of_the_same_id_for_a_worker(
    mark: str, ticks_before: int, is_ended: bool
) -> None:
    """An id that comes again cannot be had to order, so this says when the worker of that id had started."""
    with tree("sleep()", count=1) as one:
        info = read(one.root)
        assert info is not None
        _end_all({one.root: info.start_ticks - ticks_before}, mark.encode())
        assert are_gone([one.root]) == is_ended


def test_it_is_told_of_workers_that_are_gone_already(mark: str) -> None:
    with guard(mark) as one, tree("sleep()", count=1) as worker:
        tell(one, f"+{NOBODY}")
        tell(one, f"-{NOBODY}")
        tell(one, f"+{worker.root}")
        assert hang_up(one) == 0
        assert are_gone([worker.root])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_stops_the_whole_group_does_not_stop_it(mark: str, number: signal.Signals) -> None:
    with guard(mark) as one, tree("sleep()", count=1) as worker:
        tell(one, f"+{worker.root}")
        eventually("it listens", lambda: is_ignored(one.pid, number))
        one.send_signal(number)
        assert hang_up(one) == 0
        assert are_gone([worker.root])


def is_ignored(pid: int, number: int) -> bool:
    with open(f"/proc/{pid}/status") as file:
        mask = next(int(line.split()[1], 16) for line in file if line.startswith("SigIgn:"))
    return bool(mask & 1 << (number - 1))


# The service's side


async def test_closing_ends_the_guard_and_what_it_watched(mark: str) -> None:
    guarding = GuardHandle(mark)
    pid = guarding.pid
    assert not are_gone([pid])
    await guarding.close()
    await guarding.close()
    assert are_gone([pid])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_guard_that_dies_is_replaced_and_the_next_one_knows_the_workers(
    mark: str, number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with tree("child('a'); sleep()", count=2) as worker, tree("sleep()", count=1) as forgotten:
        guarding = GuardHandle(mark)
        try:
            guarding.watch(worker.root)
            guarding.watch(forgotten.root)
            first = guarding.pid
            os.kill(first, number)
            async with asyncio.timeout(30):
                while guarding.pid == first:
                    await asyncio.sleep(0.005)
            guarding.forget(forgotten.root)
            assert "guard process ended" in caplog.text
        finally:
            await guarding.close()
        assert are_gone(list(worker.pids.values()))
        assert not are_gone([forgotten.root])


@pytest.mark.parametrize("what", ["the process", "its pipe"])
async def test_a_guard_that_cannot_be_replaced_at_once_is_replaced_later(
    what: str, mark: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Until then it is said that nobody guards the workers; none of them is touched."""
    refuse, _ = refusing()
    loop = asyncio.get_running_loop()
    with tree("sleep()", count=1) as worker:
        guarding = GuardHandle(mark)
        try:
            guarding.watch(worker.root)
            first = guarding.pid
            with monkeypatch.context() as patched:
                if what == "the process":
                    patched.setattr(subprocess, "Popen", refuse)
                else:
                    patched.setattr(loop, "add_reader", refuse)
                os.kill(first, signal.SIGKILL)
                async with asyncio.timeout(30):
                    while "no guard process could be started" not in caplog.text:
                        await asyncio.sleep(0.005)
                last = guarding.pid
                assert are_gone([last])
            async with asyncio.timeout(30):
                while guarding.pid == last:
                    await asyncio.sleep(0.005)
            assert not are_gone([worker.root, guarding.pid])
        finally:
            await guarding.close()
        assert are_gone([worker.root])


async def test_after_closing_no_guard_is_tried_any_more(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TRY_AGAIN_S", 0)
    guarding = GuardHandle(mark)
    refuse, refusals = refusing()
    monkeypatch.setattr(subprocess, "Popen", refuse)
    os.kill(guarding.pid, signal.SIGKILL)
    async with asyncio.timeout(30):
        while not refusals:
            await asyncio.sleep(0.005)
    await guarding.close()
    tries = len(refusals)
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(refusals) == tries


def refusing() -> tuple[Callable[..., NoReturn], list[OSError]]:
    """A call that the system refuses, and each time that it did."""
    refusals: list[OSError] = []

    def refuse(*_: Any, **__: Any) -> NoReturn:
        refusals.append(OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)))
        raise refusals[-1]

    return refuse, refusals


async def test_a_guard_that_is_stopped_holds_nobody_up(mark: str) -> None:
    """Its pipe fills at some time; then it is replaced."""
    guarding = GuardHandle(mark)
    try:
        first = guarding.pid
        os.kill(first, signal.SIGSTOP)
        async with asyncio.timeout(60):
            while guarding.pid == first:
                for _ in range(100):
                    guarding.watch(NOBODY)
                    guarding.forget(NOBODY)
                await asyncio.sleep(0)
        assert are_gone([first])
    finally:
        await guarding.close()
