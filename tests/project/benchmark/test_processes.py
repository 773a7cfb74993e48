"""The benchmark's own processes: measured as a tree, and gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.benchmark import cpu
from tests.benchmark.children import running, start_load
from tests.benchmark.errors import BenchError
from tests.benchmark.load import LoadPlan
from tests.benchmark.systems import BY_NAME, Command, System

# A parent with a child that burns CPU time and ends; it says so when it has waited for the child.
_PARENT = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.1: pass"])
print("waited", flush=True)
sys.stdin.read()
"""

# Says which process its server is, and never ends.
_BENCHMARK = """
import signal
from tests.benchmark.children import running
from tests.benchmark.systems import BY_NAME
with running(BY_NAME["bare"], workers=1) as server:
    print(server.pid, flush=True)
    signal.pause()
"""


def test_the_cpu_time_of_a_tree_has_that_of_ended_children() -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"waited\n"
        assert cpu.cpu_s(parent.pid) >= 0.1
        parent.communicate()


def test_the_tree_of_a_process_that_is_gone_is_empty() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert cpu.tree(process.pid) == []
    assert cpu.cpu_s(process.pid) == 0


def test_a_process_that_has_ended_does_not_run_even_when_nobody_has_waited_for_it() -> None:
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        seen = cpu.read(process.pid)
        assert seen is not None
        assert cpu.is_running(seen)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not cpu.is_running(seen)


@pytest.mark.parametrize("system", ["pool", "executor"])
def test_a_server_and_its_workers_are_gone_when_it_is_left_by_an_error(system: str) -> None:
    family: list[cpu.Process] = []
    with pytest.raises(ZeroDivisionError), running(BY_NAME[system], workers=2) as server:
        family = cpu.tree(server.pid)
        raise ZeroDivisionError
    assert len(family) > 1
    assert not any(map(cpu.is_running, family))


def test_a_server_that_does_not_start_is_told_with_what_it_said() -> None:
    command = Command(arguments=(sys.executable, "-c", "raise KeyError('nobody')"), variables={})
    with (
        pytest.raises(BenchError, match=r"(?s)nobody has ended by itself.*KeyError: 'nobody'"),
        running(System(name="nobody", command=lambda start: command), workers=1),
    ):
        pass


def test_a_server_with_a_backlog_that_nobody_waits_for_is_killed_with_its_workers() -> None:
    with running(BY_NAME["executor"], workers=2, is_killed=True) as server:
        family = server.family()
    assert len(family) > 1
    assert not any(map(cpu.is_running, family))


def test_a_load_that_cannot_begin_is_told() -> None:
    with start_load(LoadPlan(port=1, path="/")) as load, pytest.raises(BenchError, match="cannot be connected to"):
        load.result()


def test_a_load_that_nobody_waits_for_is_ended() -> None:
    with running(BY_NAME["bare"], workers=1) as server:
        family = {process.pid for process in cpu.tree(os.getpid())}
        with start_load(LoadPlan(port=server.port, path="/jobs/noop", body='{"x": 1}', seconds=600)):
            (generator,) = (process for process in cpu.tree(os.getpid()) if process.pid not in family)
        assert not cpu.is_running(generator)


def test_a_server_ends_with_the_benchmark_however_it_does() -> None:
    with subprocess.Popen([sys.executable, "-c", _BENCHMARK], stdout=subprocess.PIPE) as benchmark:
        assert benchmark.stdout is not None
        server = cpu.read(int(benchmark.stdout.readline()))
        assert server is not None
        benchmark.kill()
    end = time.monotonic() + 30
    while cpu.is_running(server):
        assert time.monotonic() < end, "the server goes on without the benchmark"
        time.sleep(0.01)


def test_the_cpu_time_of_a_process_is_known_below_a_tick() -> None:
    """A job that takes a tenth of a tick is to be seen, where the kernel counts it."""
    me = cpu.read(os.getpid())
    assert me is not None
    before_s, burnt_s = cpu.process_cpu_s(me), time.process_time()
    while cpu.process_cpu_s(me) == before_s:
        assert time.process_time() - burnt_s < 10, "nothing is counted"
