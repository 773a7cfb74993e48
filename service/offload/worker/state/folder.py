"""The working directory of a worker and its file mode mask, which a job may change."""

from __future__ import annotations

import os
from contextlib import suppress


class Folder:
    """Remembers both when it is made. The directory is kept open: it may be moved, and its path may be long."""

    def __init__(self) -> None:
        self.file_mask = os.umask(0)
        os.umask(self.file_mask)
        self.descriptor = -1
        with suppress(OSError):  # it cannot be entered
            self.descriptor = os.open(".", getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY)
        self._identity = _identity_of_present()

    def restore(self) -> str:
        """Undo what the last job has changed. Returns a problem, else ""."""
        os.umask(self.file_mask)
        try:
            os.fchdir(self.descriptor)
        except OSError as error:
            if _identity_of_present() != self._identity:
                return f"the working directory cannot be entered again ({error.strerror})"
        return ""


def _identity_of_present() -> tuple[int, int] | None:
    try:
        found = os.stat(".")
    except OSError:
        return None
    return found.st_dev, found.st_ino
