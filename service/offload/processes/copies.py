"""Copies of the service that others fork, such as the processes of a `concurrent.futures` executor.

They have its signal handlers, and share the descriptor that wakes its event loop: a SIGTERM to a copy would stop the
service.
"""

from __future__ import annotations

import os
import signal
from typing import Final

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def keep_signals_from_copies() -> None:
    """Give the copies that are forked from this process the handlers of a new program, and no descriptor to wake."""
    owner = os.getpid()

    def reset() -> None:
        if os.getppid() != owner:  # a copy of a copy has handlers of its own
            return
        signal.set_wakeup_fd(-1)
        for number in _STOP_SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    os.register_at_fork(after_in_child=reset)
