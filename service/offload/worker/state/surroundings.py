"""What a worker restores between two jobs, so that a job cannot harm the next one by what it leaves behind.

Every job begins with the state in which the process was when it became ready. After each job, what is cheap to compare
is compared, in about 4 µs; only if something differs, everything is restored. What cannot be restored ends the worker.
Python objects of the user's modules are not restored, see "What the next job sees" in docs/tasks.md.
"""

from __future__ import annotations

import decimal
import faulthandler
import fcntl
import gc
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from offload.worker.state.folder import Folder
from offload.worker.state.interpreter import Interpreter
from offload.worker.state.resource_limits import ResourceLimits
from offload.worker.state.signals import COMPARED, STOPPED, TIMERS, Signals, get_handler, get_mask
from offload.worker.state.streams import StandardStreams

# How often a job's signal handlers or tracer may interrupt a restoration. Each time they are removed first.
_MAX_ATTEMPTS: Final = 5


class Surroundings:
    """Made when the worker is ready. `output` is the descriptor of its output, which `streams` writes to."""

    def __init__(self, streams: StandardStreams, output: int) -> None:
        streams.expect_present()
        self._output = output
        self._streams = streams
        self._interpreter = Interpreter()
        self._signals = Signals(output)
        self._limits = ResourceLimits()
        self._folder = Folder()
        self._is_unchanged = self._make_check()

    def restore(self) -> str:
        """Undo what the last job has changed, and flush what it printed.

        Returns what cannot be undone, for the log; "" if the worker may go on.
        """
        if self._is_unchanged():
            return ""
        problem = self._restore()
        self._is_unchanged = self._make_check()
        return problem

    def has_output(self) -> bool:
        """Returns whether printed output is unread."""
        return self._streams.has_output()

    def log_problem(self, problem: str) -> None:
        """Write to the output why this worker is about to be replaced; it is logged with the job."""
        with suppress(OSError):
            os.write(self._output, f"offload: {problem}; the worker is replaced\n".encode())

    def _restore(self) -> str:
        problem = ""
        for _ in range(_MAX_ATTEMPTS):
            try:
                self._interpreter.restore_tracing()
                self._signals.restore()
                self._interpreter.restore()
                return self._limits.restore() or self._folder.restore() or self._streams.restore()
            except BaseException as error:  # raised by a signal handler or a tracer that the job has left
                problem = f"{type(error).__name__} is raised again and again"
        return problem

    def _make_check(self) -> Callable[[], bool]:
        """Returns a function that says whether nothing has changed."""
        is_process_unchanged = _process_check(self._signals, self._folder, self._streams)
        is_python_unchanged = _python_check(self._interpreter, self._limits, self._streams)

        def is_unchanged() -> bool:
            try:
                return is_process_unchanged() and is_python_unchanged()
            except BaseException:  # a handler or a tracer of the job, a closed stream or descriptor
                return False

        return is_unchanged


# Every job pays for these two functions, so all that they need is in local names.


def _process_check(signals: Signals, folder: Folder, streams: StandardStreams) -> Callable[[], bool]:
    """Returns a function that compares what the kernel keeps, and flushes what was printed.

    Where setting costs no more than asking it sets: the alarm, the file mode mask, the working directory.
    """
    has_alarm, has_virtual, has_prof = (timer not in signals.stopped_timers for timer in TIMERS)
    getitimer, virtual, prof = signal.getitimer, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF
    has_wakeup, mask, handlers = signals.wakeup != -1, signals.blocked, signals.compared
    directory, file_mask = folder.descriptor, folder.file_mask
    _, stdout, stderr = streams.expected.values()
    input_flags, output_flags = streams.input_flags, streams.output_flags
    flags_of, getfl = fcntl.fcntl, fcntl.F_GETFL

    def is_unchanged() -> bool:
        if not has_alarm:
            signal.alarm(0)
        stdout.flush()
        stderr.flush()
        os.umask(file_mask)
        os.fchdir(directory)
        return (
            (has_virtual or getitimer(virtual) == STOPPED)
            and (has_prof or getitimer(prof) == STOPPED)
            and get_mask(0, ()) == mask
            and list(map(get_handler, COMPARED)) == handlers
            and (has_wakeup or signal.set_wakeup_fd(-1) == -1)
            and flags_of(1, getfl) == output_flags
            and flags_of(2, getfl) == output_flags
            and flags_of(0, getfl) == input_flags
        )

    return is_unchanged


def _python_check(interpreter: Interpreter, limits: ResourceLimits, streams: StandardStreams) -> Callable[[], bool]:
    """Returns a function that compares what the interpreter keeps, and the limits if a task can have changed them."""
    tracer, profiler, timeout = interpreter.tracer, interpreter.profiler, interpreter.timeout
    thread_tracer, thread_profiler = interpreter.thread_tracer, interpreter.thread_profiler
    recursion, digits, collects = interpreter.recursion, interpreter.digits, interpreter.collects
    start_method, modules, module_count = interpreter.start_method, sys.modules, interpreter.module_count
    get_decimal, get_start_method = decimal.getcontext, multiprocessing.get_start_method
    numbers, precision, rounding = interpreter.decimal, interpreter.decimal.prec, interpreter.decimal.rounding
    stdin, stdout, stderr = streams.expected.values()
    _, (out_encoding, out_errors), (err_encoding, err_errors) = streams.codecs.values()

    def is_unchanged() -> bool:
        faulthandler.cancel_dump_traceback_later()
        return (
            sys.gettrace() is tracer
            and sys.getprofile() is profiler
            and threading.gettrace() is thread_tracer
            and threading.getprofile() is thread_profiler
            and sys.stdout is stdout
            and sys.stderr is stderr
            and sys.stdin is stdin
            and not stdin.closed
            and stdout.encoding == out_encoding
            and stdout.errors == out_errors
            and stderr.encoding == err_encoding
            and stderr.errors == err_errors
            and faulthandler.is_enabled()
            and socket.getdefaulttimeout() == timeout
            and get_decimal() is numbers
            and numbers.prec == precision
            and numbers.rounding == rounding
            and gc.isenabled() is collects
            and sys.getrecursionlimit() == recursion
            and sys.get_int_max_str_digits() == digits
            and get_start_method(allow_none=True) == start_method
            and len(modules) >= module_count
            and ("resource" not in modules or limits.are_unchanged())
        )

    return is_unchanged
