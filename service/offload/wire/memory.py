"""Giving memory back to the system: the two calls that Python has no function for.

`punch` is for shared memory whose content is needed no more, `trim` for what the allocator of C keeps of freed memory.
Where the system or its C library has no such call, both do nothing.

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
    """Frees all `size_bytes` of a file in memory; it keeps its length, and reads as zeros.  Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "fallocate"):
        return
    mode, start = ctypes.c_int(_PUNCH_HOLE | _KEEP_SIZE), ctypes.c_long(0)
    size = ctypes.c_long(size_bytes + mmap.PAGESIZE)  # of a page that is not in it as a whole nothing would be freed
    if libc.fallocate(ctypes.c_int(descriptor), mode, start, size):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def trim() -> None:
    """Hands freed memory from the C library back to the system."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(ctypes.c_size_t(0))
