"""Give memory back to the system, by two calls that Python has no function for.

`punch` frees unneeded shared memory, `trim` frees what the C allocator keeps of freed memory.
Both do nothing if the system or its C library has no such call.

Source: fallocate(2), malloc_trim(3).
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Final

_KEEP_SIZE: Final = 0x01
_PUNCH_HOLE: Final = 0x02


def punch(descriptor: int, size_bytes: int) -> None:
    """Free all `size_bytes` of a file in memory. It keeps its length and reads as zeros. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "fallocate"):
        return
    mode, start = ctypes.c_int(_PUNCH_HOLE | _KEEP_SIZE), ctypes.c_long(0)
    size = ctypes.c_long(size_bytes + mmap.PAGESIZE)  # only whole pages are freed
    if libc.fallocate(ctypes.c_int(descriptor), mode, start, size):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def trim() -> None:
    """Give freed memory of the C library back to the system."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(ctypes.c_size_t(0))
