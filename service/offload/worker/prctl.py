"""The two process attributes that Python has no function for.  Linux only; elsewhere both do nothing.

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
    """SIGKILL for this process when the *thread* that made it ends (and so, at the latest, when its process does)."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def outlive_parent_thread() -> None:
    """Takes `die_with_parent_thread` back."""
    _prctl(_PR_SET_PDEATHSIG, 0)


def adopt_orphaned_descendants() -> None:
    """Descendants whose parent ends become children of this process, so that none leaves its tree by a double fork."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}) failed")
