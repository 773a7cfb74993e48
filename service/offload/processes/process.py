"""A child process as the service sees it: signals, output, and its end.

The end is detected through a process descriptor (pidfd_open(2)): the id may belong to another process by then, the
descriptor never does. The exit code of the service's own child is available as soon as its descriptor is readable. That
of a child of the forkserver arrives a moment later, on the pipe that is the `sentinel` of its `multiprocessing` object.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Final

from offload.processes.forkserver import UNKNOWN_EXIT_CODE
from offload.processes.output import OutputReader
from offload.processes.proctree import read
from offload.worker.dumps import DUMP_SIGNAL

# How long a stack dump may take before the kill: faulthandler writes it in well under a millisecond on an idle machine.
DUMP_S: Final = 0.005
# How long the exit code may lag behind the end: the forkserver has to wake up, wait for its child and write.
_EXIT_CODE_S: Final = 1.0
# A descriptor that could not be added to the event loop is tried again after this pause.
_RETRY_S: Final = 0.1

# Ends a process with its descendants; `then` is called when that is done, whatever was found: see `Reaper.kill_tree`.
KillTree = Callable[[int, int, Callable[[], None]], None]


def open_descriptor(process: BaseProcess) -> int | None:
    """Returns a descriptor that becomes readable when the process ends; None if it has ended and was reaped.

    Raises OSError. Without pidfd_open (macOS) it is the process's sentinel.
    """
    assert process.pid is not None
    if not hasattr(os, "pidfd_open"):
        return process.sentinel
    try:
        return os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None


class ProcessHandle:
    """Made on the event loop's thread, of a started process; owns `descriptor`, which `open_descriptor` returned.

    After `watch_end`, `on_ended(exit_code)` is called once; None stands for an unknown exit code.
    """

    def __init__(self, process: BaseProcess, descriptor: int | None, *, on_ended: Callable[[int | None], None]) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self.has_ended = False
        self._process = process
        self._descriptor = descriptor
        self._on_ended = on_ended
        self._start_ticks = _start_ticks(process.pid)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._awaits_exit_code = False
        self._is_closed = False

    @property
    def start_ticks(self) -> int:
        """As in `proctree.ProcessInfo`; 0 while it cannot be read, for example for want of a descriptor."""
        if not self._start_ticks and not self.has_ended:
            self._start_ticks = _start_ticks(self.pid)
        return self._start_ticks

    def watch_end(self) -> None:
        """From here on the end is reported, never before this call has returned."""
        if self._descriptor is None:
            self._loop.call_soon(self._on_descriptor)
            return
        try:
            self._loop.add_reader(self._descriptor, self._on_descriptor)
        except OSError:  # the system limits these, too: epoll_ctl(2), ENOSPC
            self._timer = self._loop.call_later(_RETRY_S, self.watch_end)

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens after the end."""
        if self.has_ended or self._descriptor is None:
            return
        try:
            if hasattr(signal, "pidfd_send_signal"):
                signal.pidfd_send_signal(self._descriptor, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            return

    def kill_tree(self, kill_tree: KillTree) -> None:
        """Kill the process with everything that it started."""
        if self.has_ended:
            return
        self.signal(signal.SIGSTOP)  # frees the CPU now; the rest takes a scan of all processes
        # Out of descriptors a scan finds nothing. This SIGKILL needs no new one; it comes last, because with the
        # process dead a scan would not find what it started.
        kill_tree(self.pid, self.start_ticks, partial(self.signal, signal.SIGKILL))

    def close(self) -> None:
        """Release every descriptor; a later end is not reported. May be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._on_ended = _ignore  # breaks a reference cycle: the sentinel is closed at once, not at the next collection
        self._stop_waiting()
        self._close_descriptor()
        self._process.join(0)  # or `multiprocessing` would keep an ended one, and its pipes, until the next start

    def close_process(self) -> None:
        """After the end: releases the `multiprocessing` object, which nothing may use any more."""
        if self._process.exitcode is not None:
            self._process.close()

    def _on_descriptor(self) -> None:
        if self._is_closed:
            return
        self.has_ended = True
        self._close_descriptor()
        if self._process.exitcode is not None:
            self._report()
            return
        self._timer = self._loop.call_later(_EXIT_CODE_S, self._report)
        try:
            self._loop.add_reader(self._process.sentinel, self._report)
            self._awaits_exit_code = True
        except OSError:  # as in `watch_end`; the timer looks once
            return

    def _report(self) -> None:
        self._stop_waiting()
        exit_code = self._process.exitcode
        self._on_ended(None if exit_code == UNKNOWN_EXIT_CODE else exit_code)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._awaits_exit_code:
            self._awaits_exit_code = False
            self._loop.remove_reader(self._process.sentinel)

    def _close_descriptor(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._loop.remove_reader(descriptor)
            if hasattr(os, "pidfd_open"):
                os.close(descriptor)


class WorkerHandle(ProcessHandle):
    """A worker process; owns `output` as well, the reading end of the pipe that is its stdout and stderr."""

    def __init__(
        self,
        process: BaseProcess,
        descriptor: int | None,
        *,
        output: int,
        lane: int,
        on_ended: Callable[[int | None], None],
    ) -> None:
        super().__init__(process, descriptor, on_ended=on_ended)
        self.output = OutputReader(output, lane=lane, pid=self.pid)

    def dump_stacks(self) -> None:
        """Ask for the Python stacks of all its threads; they appear in its output."""
        self.signal(DUMP_SIGNAL)

    def close(self) -> None:
        super().close()
        self.output.close()


def _ignore(exit_code: int | None) -> None:
    pass


def _start_ticks(pid: int) -> int:
    info = read(pid)
    return 0 if info is None else info.start_ticks
