"""The open descriptors of this process."""

from __future__ import annotations

import os
from contextlib import suppress


def paths_of_descriptors() -> dict[int, str]:
    """Returns the open descriptors and what they are; on a system without /proc, "" for each."""
    paths = {}
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # the listing's own descriptor is closed by now
            os.fstat(int(name))
            try:
                paths[int(name)] = os.readlink(f"/dev/fd/{name}")
            except OSError:
                paths[int(name)] = ""
    return paths


def is_locked(number: int) -> bool:
    """Whether a lock of flock(2) or fcntl(2) is held through this descriptor."""
    try:
        with open(f"/proc/self/fdinfo/{number}", encoding="ascii", errors="replace") as file:
            return any(line.startswith("lock:") for line in file)
    except OSError:
        return False
