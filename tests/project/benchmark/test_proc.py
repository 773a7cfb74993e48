"""Processes, CPU time and memory, read from `/proc`."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time

from tests.benchmark import proc

MIB = 1024 * 1024
ROLLUP = """\
560b5b5f2000-7ffe68ef2000 ---p 00000000 00:00 0                          [rollup]
Rss:                1676 kB
Pss:                 462 kB
Pss_Shmem:             0 kB
"""
# Has a child that uses CPU time and ends, and says when it has waited for it.
PARENT = """
import subprocess, sys
subprocess.run([sys.executable, "-S", "-c", "import time\\nwhile time.process_time() < 0.1: pass"])
print("waited", flush=True)
sys.stdin.read()
"""


def test_sizes_are_read_by_name_and_other_lines_skipped() -> None:
    assert proc.read_sizes(ROLLUP) == {"Rss": 1676 * 1024, "Pss": 462 * 1024, "Pss_Shmem": 0}


def test_the_memory_of_this_process_is_known() -> None:
    assert proc.pss_bytes(os.getpid()) > MIB


def test_a_peak_includes_private_memory_and_shared_memory_that_no_process_maps() -> None:
    shared = os.memfd_create("peak")
    try:
        with proc.Peak(os.getpid()) as peak:
            mapped = mmap.mmap(-1, 16 * MIB, flags=mmap.MAP_PRIVATE)
            mapped.write(b"x" * (16 * MIB))
            os.posix_fallocate(shared, 0, 16 * MIB)
            end = time.monotonic() + 60
            while peak.above_idle_bytes < 30 * MIB:
                assert time.monotonic() < end, peak.above_idle_bytes
            mapped.close()
    finally:
        os.close(shared)


def test_the_cpu_time_of_a_tree_includes_that_of_ended_children() -> None:
    command = [sys.executable, "-S", "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"waited\n"
        assert proc.cpu_s(parent.pid) >= 0.1
        parent.communicate()


def test_the_tree_of_a_process_that_is_gone_is_empty() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert proc.tree(process.pid) == []
    assert proc.cpu_s(process.pid) == 0


def test_a_zombie_does_not_run() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        seen = proc.read(process.pid)
        assert seen is not None
        assert proc.is_running(seen)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not proc.is_running(seen)


def test_the_cpu_time_of_a_process_is_known_below_a_tick() -> None:
    me = proc.read(os.getpid())
    assert me is not None
    before_s, burnt_s = proc.process_cpu_s(me), time.process_time()
    while proc.process_cpu_s(me) == before_s:
        assert time.process_time() - burnt_s < 10, "nothing is counted"
