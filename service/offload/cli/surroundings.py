"""Makes the process independent of how it was started: standard streams, signals, path and working directory.

Runs before anything else is imported, and imports nothing that Python has not loaded for itself.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Final

_STREAMS: Final = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_standard_streams() -> None:
    """Open `/dev/null` for each of the descriptors 0, 1 and 2 that is closed.

    The next file or socket would get its number, and would be mistaken for the stream by this process and all that it
    starts.
    """
    for descriptor, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
            os.set_inheritable(descriptor, True)
        if getattr(sys, name) is None:
            # Python opens the stream itself only if the descriptor was open when it started.
            stream = open(descriptor, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def leave_start_directory() -> None:
    """Take the directory of the command's script off the path. `python -m offload` does so when imported."""
    if not sys.flags.safe_path and sys.path[:1] == [os.path.dirname(os.path.realpath(sys.argv[0]))]:
        del sys.path[0]


def end_like_a_command(code: int) -> None:
    """End this process if Python would read commands from stdin instead (PYTHONINSPECT): a command has an exit code."""
    if sys.flags.inspect:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)


def end_at_stop_signals() -> None:
    """Make SIGTERM and SIGINT end this process with exit code 0, until the service handles them.

    Python would end with a traceback or by the signal. There is nothing to tidy up yet: what this process has started
    ends with it.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored by the parent, it would hide how processes end
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD))


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(0)


def is_directory_usable() -> bool:
    """Whether the working directory exists and can be entered, as every process that is started does."""
    try:
        os.chdir(os.getcwd())
    except OSError:
        return False
    return True
