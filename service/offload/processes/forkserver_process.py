"""The forkserver process: loads the user's modules, then forks a process for each request of the service.

A request is one byte with descriptors, on a socket that only the service holds: the socket has no address, so no other
process can use it, and no directory has to exist for it. Of the descriptors, the first is the pipe from which the child
reads its `multiprocessing` process object. The second takes the child's id, or a negative error number, and later its
exit code. The third belongs to the resource tracker; the others are the child's.

Source: `multiprocessing/forkserver.py` of CPython 3.11 to 3.14.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from multiprocessing import forkserver, reduction, resource_tracker, spawn
from typing import Any, Final, NoReturn

from offload.processes import forkserver as service_side
from offload.processes.limits import descriptors_limited
from offload.settings import table
from offload.worker import entry, main
from offload.worker.imports import preload

# The most that Linux passes at once is 253: unix(7).
_MAX_DESCRIPTORS: Final = 250
_WAKE_UPS: Final = 4096

# What every worker would otherwise import before it is ready, for itself or to unpickle its process object. It comes
# before the user's modules, whose directory is searched first from then on.
NEEDED: Final = (entry, main, service_side, table)


def serve(channel: int, descriptor_limit: int | None) -> None:
    """Load what the environment names; fork until the service closes its end of the socket `channel`.

    `descriptor_limit` is the limit on open files for what the user's modules start.
    """
    with descriptors_limited(descriptor_limit):
        preload.load_from_environment()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a signal to the group means the service
    signal.signal(signal.SIGCHLD, _ignore)
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    with socket.socket(fileno=channel) as requests, selectors.DefaultSelector() as selector:
        server = _Server(requests, own=(woken, wake, selector.fileno()))
        selector.register(requests, selectors.EVENT_READ, server.take_request)
        selector.register(woken, selectors.EVENT_READ, lambda: server.report_ends(woken))
        while not server.is_closed:
            for key, _ in selector.select():
                key.data()


class _Server:
    """`own`: descriptors of this process, which a child closes."""

    def __init__(self, requests: socket.socket, *, own: tuple[int, ...]) -> None:
        self.is_closed = False
        self._requests = requests
        self._own = own
        self._statuses: dict[int, int] = {}  # process id → where its exit code goes

    def take_request(self) -> None:
        try:
            data, *descriptors = reduction.recvfds(self._requests, _MAX_DESCRIPTORS)
        except (EOFError, ConnectionError):
            self.is_closed = True  # the service has ended
            return
        status, *inherited = descriptors
        try:
            pid = os.fork()
        except OSError as error:  # too many processes, or too little memory
            _write(status, -(error.errno or 1))
            inherited.append(status)
        else:
            if not pid:
                self._become_child(data, status, inherited)
            self._statuses[pid] = status
            _write(status, pid)
        for descriptor in (data, *inherited):
            os.close(descriptor)

    def report_ends(self, woken: int) -> None:
        os.read(woken, _WAKE_UPS)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            # Unknown: a process that the user's modules started.
            receiver = self._statuses.pop(pid, None)
            if receiver is not None:
                _write(receiver, os.waitstatus_to_exitcode(status))
                os.close(receiver)

    def _become_child(self, data: int, status: int, inherited: list[int]) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._requests.close()
            for descriptor in (status, *self._own, *self._statuses.values()):
                os.close(descriptor)
            library: Any = forkserver
            vars(resource_tracker)["_resource_tracker"]._fd, *library._forkserver._inherited_fds = inherited
            code = _run(data)
        except Exception:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        finally:
            os._exit(code)


def _run(data: int) -> int:
    """Run the process object that the pipe `data` delivers; return its exit code."""
    run: Callable[[int, int], int] = vars(spawn)["_main"]
    return run(data, os.dup(data))


def _write(descriptor: int, number: int) -> None:
    try:
        forkserver.write_signed(descriptor, number)
    except BrokenPipeError:
        return  # the service no longer reads it


def _ignore(*_: object) -> None:
    """Handle SIGCHLD: only a signal with a handler wakes the selector."""
