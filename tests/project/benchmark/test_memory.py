"""Memory of a tree of processes, out of `/proc`."""

from __future__ import annotations

import mmap
import os
import time

from tests.benchmark import memory

MIB = 1024 * 1024
ROLLUP = """\
560b5b5f2000-7ffe68ef2000 ---p 00000000 00:00 0                          [rollup]
Rss:                1676 kB
Pss:                 462 kB
Pss_Shmem:             0 kB
"""


def test_sizes_are_read_by_name_and_other_lines_left_out() -> None:
    assert memory.read_sizes(ROLLUP) == {"Rss": 1676 * 1024, "Pss": 462 * 1024, "Pss_Shmem": 0}


def test_the_memory_of_this_process_is_known() -> None:
    assert memory.pss_bytes(os.getpid()) > MIB


def test_a_peak_has_private_memory_and_shared_memory_that_nobody_maps() -> None:
    shared = os.memfd_create("peak")
    try:
        with memory.Peak(os.getpid()) as peak:
            mapped = mmap.mmap(-1, 16 * MIB, flags=mmap.MAP_PRIVATE)
            mapped.write(b"x" * (16 * MIB))
            os.posix_fallocate(shared, 0, 16 * MIB)
            end = time.monotonic() + 30
            while peak.above_idle_bytes < 30 * MIB:
                assert time.monotonic() < end, peak.above_idle_bytes
            mapped.close()
    finally:
        os.close(shared)
