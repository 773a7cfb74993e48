"""The processes of a benchmark: started, and gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.benchmark import proc
from tests.benchmark.errors import BenchError
from tests.benchmark.load.plan import LoadPlan
from tests.benchmark.processes import running, start_load
from tests.benchmark.systems import BY_NAME, System

# Prints the process of its server, and never ends.
BENCHMARK = """
import signal
from tests.benchmark.processes import running
from tests.benchmark.systems import BY_NAME
with running(BY_NAME["bare"], workers=1) as server:
    print(server.pid, flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
def test_a_server_and_its_workers_are_gone_after_an_error(is_killed: bool) -> None:
    family: list[proc.Process] = []
    with pytest.raises(ZeroDivisionError), running(BY_NAME["executor"], workers=1, is_killed=is_killed) as server:
        family = proc.tree(server.pid)
        raise ZeroDivisionError
    assert len(family) > 1
    assert not any(map(proc.is_running, family))


def test_a_server_that_does_not_start_is_reported_with_its_log() -> None:
    command = (sys.executable, "-S", "-c", "raise KeyError('port')")
    with (
        pytest.raises(BenchError, match=r"(?s)^broken ended unexpectedly.*KeyError: 'port'"),
        running(System(name="broken", command=lambda start: command), workers=1),
    ):
        pass


def test_a_load_without_a_server_is_reported() -> None:
    with start_load(LoadPlan(port=1, path="/")) as load, pytest.raises(BenchError, match="cannot connect to port 1"):
        load.result()


def test_a_load_ends_with_its_context() -> None:
    with running(BY_NAME["bare"], workers=1) as server:
        family = {process.pid for process in proc.tree(os.getpid())}
        with start_load(LoadPlan(port=server.port, path="/jobs/noop", body='{"x": 1}', seconds=600)):
            (generator,) = (process for process in proc.tree(os.getpid()) if process.pid not in family)
        assert not proc.is_running(generator)


def test_a_server_ends_with_the_benchmark_however_it_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", BENCHMARK], stdout=subprocess.PIPE) as benchmark:
        assert benchmark.stdout is not None
        server = proc.read(int(benchmark.stdout.readline()))
        assert server is not None
        benchmark.kill()
    end = time.monotonic() + 60
    while proc.is_running(server):
        assert time.monotonic() < end, "the server runs on without the benchmark"
