"""The leak check finds what a test leaves behind, and nothing else."""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
import threading
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest

from tests.support.leaks import MARK_VARIABLE, Stock, left_since, memory_names, take_stock, unused_memory_since

# Prints the id of a child that sleeps, and exits, so that the child becomes an orphan.
ORPHAN_MAKER = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'input()'], stdout=2).pid)"

# Holds shared memory in a process that has lost its parent, until its input ends.
STRANGER = """
import os, sys
from multiprocessing.shared_memory import SharedMemory
if os.fork() == 0:
    memory = SharedMemory(create=True, size=1)
    print(memory.name, flush=True)
    sys.stdin.read()
    memory.close()
    memory.unlink()
    print("unlinked", flush=True)
"""


@pytest.fixture
def before() -> Stock:
    return take_stock(with_memory_names=False)


def found(before: Stock) -> list[str]:
    """Returns what is left, without waiting: what these tests leave stays until they remove it."""
    return left_since(before, settle_s=0)


def test_nothing_is_found_where_nothing_is_left(before: Stock) -> None:
    assert left_since(before) == []


def test_a_child_process_is_found(before: Stock) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert any(line.startswith(f"process {child.pid}: {sys.executable}") for line in found(before))


def test_an_orphan_is_found(before: Stock) -> None:
    read, write = os.pipe()
    output = subprocess.run([sys.executable, "-c", ORPHAN_MAKER], stdin=read, stdout=subprocess.PIPE, check=True).stdout
    assert any(line.startswith(f"process {int(output)}:") for line in found(before))
    os.close(read)
    os.close(write)


def test_a_zombie_is_found(before: Stock) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert f"process {child.pid}: a zombie: nobody has waited for it" in found(before)
    child.wait()


def test_a_thread_is_found(before: Stock) -> None:
    may_end = threading.Event()
    thread = threading.Thread(target=may_end.wait, name="left behind")
    thread.start()
    assert f"thread {thread.ident}: left behind" in found(before)
    may_end.set()
    thread.join()


def test_a_descriptor_is_found(before: Stock) -> None:
    with socket.socket() as one:
        assert [line.split(":")[0] for line in found(before)] == [f"descriptor {one.fileno()}"]


def test_a_descriptor_that_was_replaced_is_found() -> None:
    with socket.socket() as one, socket.socket() as other:
        before = take_stock()
        os.dup2(other.fileno(), one.fileno())
        assert [line.split(":")[0] for line in found(before)] == [f"descriptor {one.fileno()}"]


def test_shared_memory_is_found() -> None:
    before = take_stock()
    memory = SharedMemory(create=True, size=1)
    assert f"shared memory {memory.name}: not unlinked" in found(before)
    memory.close()
    memory.unlink()


def test_shared_memory_without_a_user_is_found_at_the_end() -> None:
    before = memory_names()
    memory = SharedMemory(create=True, size=1)
    assert memory.name not in unused_memory_since(before, settle_s=0)
    memory.close()
    assert memory.name in unused_memory_since(before, settle_s=0)
    memory.unlink()
    assert memory.name not in unused_memory_since(before, settle_s=0)


def test_mapped_anonymous_memory_is_found(before: Stock) -> None:
    descriptor = os.memfd_create("left-behind")
    os.truncate(descriptor, mmap.PAGESIZE)
    with mmap.mmap(descriptor, mmap.PAGESIZE):
        os.close(descriptor)
        assert any(line.startswith("mapping ") and "/memfd:left-behind" in line for line in found(before))


def test_shared_memory_of_another_program_is_not_found() -> None:
    before = take_stock()
    environment = {name: value for name, value in os.environ.items() if name != MARK_VARIABLE}
    command = [sys.executable, "-c", STRANGER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        name = parent.stdout.readline().decode().strip()
        parent.wait()
        assert name in os.listdir("/dev/shm")
        assert not [line for line in found(before) if name in line]
        parent.stdin.close()
        assert parent.stdout.read() == b"unlinked\n"


def test_a_test_that_leaves_a_task_fails(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import asyncio, os

        async def test_leaves_a_task():
            asyncio.create_task(asyncio.Event().wait(), name="left behind")

        async def test_ends_its_task():
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0))

        def test_leaves_nothing():
            os.close(os.dup(0))
        """
    )
    result = suite.runpytest_subprocess()
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_leaves_a_task*", "left behind:", "asyncio task left behind*"]
    )


def test_a_module_that_leaves_a_task_on_its_loop_fails(suite: pytest.Pytester) -> None:
    """The task may outlive the test that made it, but not the module's loop."""
    suite.makepyfile(
        """
        import asyncio, pytest, pytest_asyncio

        pytestmark = pytest.mark.asyncio(loop_scope="module")

        @pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
        async def ended():
            task = asyncio.create_task(asyncio.Event().wait(), name="ended by its fixture")
            yield
            task.cancel()
            await asyncio.wait([task])

        async def test_leaves_a_task():
            asyncio.create_task(asyncio.Event().wait(), name="left behind")

        async def test_is_the_last():
            assert "left behind" in {task.get_name() for task in asyncio.all_tasks()}
        """
    )
    result = suite.runpytest_subprocess()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_is_the_last*", "left behind:", "asyncio task left behind*"]
    )
    result.stdout.no_fnmatch_line("*ended by its fixture*")


def test_a_session_that_leaves_shared_memory_fails(suite: pytest.Pytester) -> None:
    path = Path("/dev/shm") / f"offload-left-{os.getpid()}"
    suite.makepyfile(f"def test_leaves_a_name(): open({str(path)!r}, 'w').close()")
    result = suite.runpytest_subprocess("--override-ini=memory_settle_s=0")
    path.unlink()
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"shared memory {path.name}: not unlinked"])
