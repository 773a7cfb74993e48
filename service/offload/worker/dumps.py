"""Dumps of the Python stacks of a worker: at a crash, and when the service asks for one with a signal."""

from __future__ import annotations

import faulthandler
import signal
from typing import Final

# Makes a worker dump the Python stacks of all threads; faulthandler needs no GIL for that.
DUMP_SIGNAL: Final = signal.SIGUSR2


def write_dumps_to(output: int) -> None:
    """Write the Python stacks to this descriptor at a crash and at DUMP_SIGNAL, also if a task has changed that."""
    # First off: handlers that were replaced, as at the start of a worker, would not be installed again.
    faulthandler.disable()
    faulthandler.unregister(DUMP_SIGNAL)
    faulthandler.enable(output)
    faulthandler.register(DUMP_SIGNAL, output, all_threads=True)
