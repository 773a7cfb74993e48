"""The signals of a worker: handlers, blocked signals, timers. A job may change them and forget to undo it."""

from __future__ import annotations

import faulthandler
import signal
from typing import Any, Final

from offload.worker.dumps import DUMP_SIGNAL, write_dumps_to

# The public functions make an enum of each number, which takes up to ten times as long.
_fast: Final[Any] = getattr(signal, "_signal", signal)
get_handler: Final[Any] = _fast.getsignal
get_mask: Final[Any] = _fast.pthread_sigmask

# Those whose handlers are compared after each job: what timers, libraries, people and the system send.
COMPARED: Final = tuple(
    int(number)
    for number in (
        signal.SIGALRM,
        signal.SIGCHLD,
        signal.SIGINT,
        signal.SIGPIPE,
        signal.SIGTERM,
        DUMP_SIGNAL,
    )
)
TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
STOPPED: Final = (0.0, 0.0)
_SETTABLE: Final = frozenset(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class Signals:
    """Remembers the state when it is made. What the user's start-up functions have set up stays.

    `output` is the descriptor for stack dumps.
    """

    def __init__(self, output: int) -> None:
        self._output = output
        self.stopped_timers = [timer for timer in TIMERS if signal.getitimer(timer) == STOPPED]
        self._handlers = {number: signal.getsignal(number) for number in _SETTABLE}
        self.compared = [get_handler(number) for number in COMPARED]
        self.blocked: set[int] = get_mask(signal.SIG_BLOCK, ())
        self.wakeup = signal.set_wakeup_fd(-1)
        self._restore_wakeup()

    def restore(self) -> None:
        """Undo what the last job has changed.

        Timers come first. Raises what a handler of the job raises, for a signal that has just come; then this must be
        called again.
        """
        for timer in self.stopped_timers:
            signal.setitimer(timer, 0)
        faulthandler.cancel_dump_traceback_later()
        for number, handler in self._handlers.items():
            if handler is not None and signal.getsignal(number) != handler:  # None: set by C code
                signal.signal(number, handler)
        write_dumps_to(self._output)
        self._restore_blocked()
        self._restore_wakeup()

    def _restore_blocked(self) -> None:
        """Unblock signals. A pending one was meant for the last job: ignoring it for a moment discards it."""
        forgotten = get_mask(signal.SIG_BLOCK, ()) - self.blocked
        for number in signal.sigpending():
            handler = self._handlers.get(number)
            if number in forgotten and handler is not None:
                signal.signal(number, signal.SIG_IGN)
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.blocked)

    def _restore_wakeup(self) -> None:
        try:
            signal.set_wakeup_fd(self.wakeup)
        except (OSError, ValueError):  # the job has closed it
            self.wakeup = signal.set_wakeup_fd(-1)
