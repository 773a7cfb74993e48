"""Two process attributes for which Python has no function. On systems other than Linux, these functions do nothing.

Source: prctl(2), PR_SET_PDEATHSIG and PR_SET_CHILD_SUBREAPER.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


def die_with_parent_thread() -> None:
    """Make the kernel kill this process when the *thread* that started it ends, at the latest with its process."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def outlive_parent_thread() -> None:
    """Undo `die_with_parent_thread`."""
    _prctl(_PR_SET_PDEATHSIG, 0)


def adopt_orphaned_descendants() -> None:
    """Make orphaned descendants children of this process, so that a double fork does not leave its tree."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}) failed")
