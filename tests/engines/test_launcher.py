"""How processes are made, and what becomes of them when their maker dies early."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from offload.engines.supervised.forkserver import OwnForkServer
from tests.engines.process_trees import are_gone, eventually

# What a service does before its event loop runs: there is no guard yet.
WARMING_UP = """
import sys, time
from offload.engines.supervised.launcher import Launcher
from offload.tasks.loading import parse_target
from offload.worker.spec import LoadSpec

Launcher("forkserver", LoadSpec(targets=(parse_target(sys.argv[1]),), library_threads=1)).warm_up()
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


def test_a_start_that_is_under_way_when_the_forkserver_is_ended_gets_no_other() -> None:
    """It would load the modules again, for as long as that takes, and hold the end of the service up."""
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
