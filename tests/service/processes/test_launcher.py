"""Starting processes, and what happens to them if the service dies early."""

from __future__ import annotations

import asyncio
import multiprocessing.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, nullcontext
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest

from offload.processes.forkserver import OwnForkServer
from offload.processes.launcher import Launcher
from offload.processes.proctree import has_mark
from offload.settings.table import StartMethod
from offload.wire.spec import LoadSpec
from tests.service.processes.process_trees import Tree, are_gone, eventually, state, tree

# What a service does before its event loop runs, while it has no guard yet.
WARMING_UP = """
import sys, time
from offload.processes.launcher import Launcher
from offload.tasks.targets.loading import parse_target
from offload.wire.spec import LoadSpec

load = LoadSpec(targets=(parse_target(sys.argv[1]),), library_threads=1, max_body_bytes=1 << 25)
Launcher("forkserver", load).warm_up()
time.sleep(1000)
"""


@contextmanager
def warming_up(tasks: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", WARMING_UP, str(tasks)], stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_service_that_is_killed_while_a_module_hangs_leaves_nothing(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.py"
    tasks.write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(1000)\n")
    with warming_up(tasks) as service:
        assert service.stdout is not None
        forkserver = int(service.stdout.readline())
        assert forkserver != service.pid
        assert not are_gone([forkserver])
        service.kill()
        eventually("the forkserver is gone", lambda: are_gone([forkserver]))


def test_closing_a_forkserver_fails_a_start_that_is_under_way() -> None:
    """Another forkserver would load the modules again and delay the end of the service."""
    server = OwnForkServer(nullcontext)
    server.ensure_running()
    first = server.pid
    assert first is not None
    server.end()
    with pytest.raises(EOFError):
        server.fork([])
    assert server.pid == first
    server.close()
    assert are_gone([first])


def test_the_environment_of_a_forkserver_is_entered_for_its_start_only() -> None:
    """The environment belongs to the whole service: what others start meanwhile inherits it."""
    entered = []

    @contextmanager
    def environment() -> Iterator[None]:
        entered.append(server.pid)
        yield

    server = OwnForkServer(environment)
    server.ensure_running()
    first = server.pid
    assert first is not None
    server.ensure_running()
    assert entered == [None]
    server.kill()
    eventually("it is gone", lambda: are_gone([first]))
    server.ensure_running()
    assert entered == [None, None]
    assert server.pid != first
    server.close()


# Strays


@asynccontextmanager
async def launching(start_method: StartMethod) -> AsyncIterator[Launcher]:
    launcher = Launcher(start_method, LoadSpec(targets=(), library_threads=1, max_body_bytes=1 << 25))
    launcher.warm_up()
    launcher.open()
    try:
        yield launcher
    finally:
        await launcher.close()


@asynccontextmanager
async def sleeping(launcher: Launcher) -> AsyncIterator[int]:
    """Starts a process; yields its id."""
    process = await launcher.start(time.sleep, 1000, name="sleeping")
    assert process.pid is not None
    try:
        yield process.pid
    finally:
        process.kill()
        await asyncio.to_thread(process.join)
        launcher.forget(process.pid)
        process.close()


async def test_a_process_that_the_application_starts_meanwhile_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application's process and its children have the mark too."""
    make: Callable[..., int] = multiprocessing.util.spawnv_passfds
    with ExitStack() as stack:
        bystanders: list[Tree] = []

        def make_beside_another(*arguments: Any) -> int:
            bystanders.append(stack.enter_context(tree("child('a'); sleep()", count=2)))
            return make(*arguments)

        async with launching(StartMethod.SPAWN) as launcher:
            monkeypatch.setattr(multiprocessing.util, "spawnv_passfds", make_beside_another)
            async with sleeping(launcher) as worker:
                monkeypatch.undo()
                (bystander,) = bystanders
                assert has_mark(bystander.root, launcher.mark.encode())
                env = dict([launcher.mark.split("=")])
                with tree("child('stray', session=True); os._exit(0)", count=2, env=env) as dead:
                    dead.process.wait()
                    await launcher.hunt_strays()
                    eventually("the stray is gone", lambda: are_gone([dead.pids["stray"]]))
                assert not any(are_gone([pid]) for pid in [*bystander.pids.values(), worker])


async def test_a_guard_with_the_mark_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard was replaced while a forkserver was being started."""
    launcher = Launcher(StartMethod.FORKSERVER, LoadSpec(targets=(), library_threads=1, max_body_bytes=1 << 25))
    with monkeypatch.context() as patched:
        patched.setenv(*launcher.mark.split("="))
        launcher.open()
    try:
        # The kernel shows the environment only some time after exec has closed the pipe that Popen waits for.
        eventually("the guard has the mark", lambda: len(children_marked(launcher.mark)) == 1)
        (guard,) = children_marked(launcher.mark)
        await launcher.hunt_strays()
        eventually("it sleeps, or was killed", lambda: state(guard) in ("S", "Z", "X", ""))
        assert state(guard) == "S"
    finally:
        await launcher.close()


def children_marked(mark: str) -> list[int]:
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in map(int, listed) if has_mark(pid, mark.encode())]


@pytest.mark.parametrize("start_method", [StartMethod.FORKSERVER, StartMethod.SPAWN])
async def test_a_replaced_resource_tracker_has_no_mark(start_method: StartMethod) -> None:
    """With the mark, it would be killed as a stray and replaced, forever."""
    tracker = vars(resource_tracker)["_resource_tracker"]
    async with launching(start_method) as launcher:
        os.kill(tracker._pid, signal.SIGKILL)
        eventually("it is gone", lambda: are_gone([tracker._pid]))
        if launcher.forkserver_pid is not None:
            os.kill(launcher.forkserver_pid, signal.SIGKILL)
            eventually("it is gone, too", lambda: are_gone([launcher.forkserver_pid or 0]))
        with pytest.warns(UserWarning, match="resource_tracker: process died unexpectedly"):
            async with sleeping(launcher):
                assert not are_gone([tracker._pid])
                assert not has_mark(tracker._pid, launcher.mark.encode())
