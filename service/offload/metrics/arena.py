"""Gives the memory of `multiprocessing.Value` and `Array` no file.

The library maps a file in `/dev/shm`, or in the temporary directory if there is too little space. Either may be missing
or read-only, and a file has no space of its own until it is written: when others have filled the file system by then,
the write ends the process with SIGBUS. Memory without a file (memfd) has none of this.

Source: `multiprocessing/heap.py` of CPython 3.11 to 3.14; memfd_create(2).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import heap, util
from typing import Any, Final

NAME: Final = "metrics-of-offload"  # shown in /proc

_library: Any = heap  # its names are not in the stubs


class _Heap(_library.Heap):  # type: ignore[misc]  # not in the stubs
    def _new_arena(self, size_bytes: int) -> tuple[object, int, int]:
        try:
            descriptor = os.memfd_create(NAME, os.MFD_CLOEXEC)
        except OSError:  # a sandbox may forbid it
            return super()._new_arena(size_bytes)  # type: ignore[no-any-return]  # as above
        length = self._roundup(max(self._size, size_bytes), mmap.PAGESIZE)
        try:
            os.truncate(descriptor, length)
            arena = _library.Arena(length, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        util.Finalize(arena, os.close, (descriptor,))
        self._arenas.append(arena)
        return arena, 0, length


@contextmanager
def memory_without_files() -> Iterator[None]:
    """Within the block, `Value` and `Array` allocate memory without a file, in any thread. On macOS nothing changes."""
    if not hasattr(os, "memfd_create"):
        yield
        return
    buffers = _library.BufferWrapper
    before, buffers._heap = buffers._heap, _Heap()
    try:
        yield
    finally:
        buffers._heap = before
