"""A forkserver per engine, with the user's modules loaded, and the `multiprocessing` process that is forked from it.

The standard library has one forkserver for the whole process: its preload list is fixed when it starts, and it lives as
long as that process. Its address is a file in a temporary directory, which may be missing, read-only, or have too long
a path. An engine needs its own, which no other engine or the surrounding application can interfere with, which has no
address, and which ends with the engine. `forkserver_process` is the other side.

Source: `multiprocessing/forkserver.py` and `popen_forkserver.py` of CPython 3.11 to 3.14.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from multiprocessing import forkserver, popen_forkserver, resource_tracker, spawn, util
from multiprocessing.connection import wait
from multiprocessing.context import reduction, set_spawning_popen  # type: ignore[attr-defined]  # not in the stubs
from typing import Any, Final

from offload.processes.children import LimitedProcess
from offload.processes.safe_path import SAFE_PATH_FLAG, code_on_path, start_tracker

# The forkserver died before it could report how its child ended. No process has this exit code.
UNKNOWN_EXIT_CODE: Final = 1 << 16


# A worker needs nothing from the service's main module, and would run it again at each start. Its `sys.path` and start
# method are those of the forkserver, where the user's modules may have changed them.
_NOT_PASSED: Final = ("init_main_from_name", "init_main_from_path", "sys_path", "start_method")


Environment = Callable[[], AbstractContextManager[None]]


class OwnForkServer:
    """One forkserver process, which is started again when it is needed after its death.

    Its methods block for milliseconds and are called from one thread, `kill` and `end` from any. `environment` is
    entered only while the process is being started, and sets its environment variables. Any other process that is
    started meanwhile inherits them too. `descriptor_limit` is the limit on open files for the user's modules.
    """

    def __init__(self, environment: Environment, descriptor_limit: int | None = None) -> None:
        self._environment = environment
        self._descriptor_limit = descriptor_limit
        self._lock = threading.Lock()  # held for milliseconds
        self._may_start = True
        self._requests: socket.socket | None = None
        self.pid: int | None = None

    def ensure_running(self) -> None:
        """Start the process unless it is running. Raises OSError, and EOFError after `end`."""
        start_tracker()  # or it would be started in the environment below
        with self._lock:
            if not self._may_start:
                raise EOFError("the forkserver has been closed")
            if self.pid is not None and os.waitpid(self.pid, os.WNOHANG)[0]:
                self._forget()
            if self.pid is None:
                with self._environment():
                    self._start()

    def fork(self, descriptors: list[int]) -> tuple[int, int]:
        """Fork a process that has these descriptors. Returns the ends of two pipes.

        The process's id can be read from the first, or a negative error number; then its exit code. The second takes
        the process object. Raises OSError, and EOFError after `end`.
        """
        self.ensure_running()
        assert self._requests is not None
        status, child_status = os.pipe()
        try:
            child_data, data = os.pipe()
            try:
                tracker = resource_tracker.getfd()
                reduction.sendfds(self._requests, [child_data, child_status, tracker, *descriptors])
            except BaseException:
                os.close(data)
                raise
            finally:
                os.close(child_data)
        except BaseException:
            os.close(status)
            raise
        finally:
            os.close(child_status)
        return status, data

    def kill(self) -> None:
        """Kill the process, even if it is stopped; a later `fork` starts another."""
        with self._lock:
            self._kill()

    def end(self) -> None:
        """Kill the process for good. A `fork` that waits for it in another thread fails."""
        with self._lock:
            self._may_start = False
            self._kill()

    def close(self) -> None:
        """Kill the process for good and wait for its end. May be called twice."""
        self.end()
        with self._lock:
            if self.pid is not None:
                os.waitpid(self.pid, 0)
                self._forget()

    def _start(self) -> None:
        own_end, its_end = socket.socketpair()
        try:
            with its_end:
                command = _command(its_end.fileno(), self._descriptor_limit)
                self.pid = util.spawnv_passfds(os.fsencode(spawn.get_executable()), command, [its_end.fileno()])
        except BaseException:
            own_end.close()
            raise
        self._requests = own_end

    def _kill(self) -> None:
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _forget(self) -> None:
        self.pid = None
        if self._requests is not None:
            self._requests.close()
            self._requests = None


def _command(requests: int, descriptor_limit: int | None) -> list[str | bytes]:
    code = f"from offload.processes.forkserver_process import serve; serve({requests}, {descriptor_limit})"
    flags = vars(util)["_args_from_interpreter_flags"]()
    return [spawn.get_executable(), *flags, SAFE_PATH_FLAG, "-c", code_on_path(code)]


class ForkserverProcess(LimitedProcess):
    """A `multiprocessing` process forked from a given forkserver."""

    _start_method = None  # the child has Python's default

    def __init__(self, server: OwnForkServer, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._server = server

    def __getstate__(self) -> dict[str, Any]:
        """Returns what travels to the child: everything except the forkserver."""
        state = self.__dict__.copy()
        del state["_server"]
        return state

    @staticmethod
    def _Popen(process_obj: ForkserverProcess) -> _Popen:  # noqa: N802  # the name is the library's
        return _Popen(process_obj)


class _Popen(popen_forkserver.Popen):
    """As the library's, but forked from a given forkserver, and safe to poll from several threads: see `children`."""

    def __init__(self, process_obj: ForkserverProcess) -> None:
        self._lock = threading.Lock()
        super().__init__(process_obj)

    def _launch(self, process_obj: ForkserverProcess) -> None:
        preparation = spawn.get_preparation_data(process_obj.name)
        for name in _NOT_PASSED:
            preparation.pop(name, None)
        data = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump(preparation, data)
            reduction.dump(process_obj, data)
        finally:
            set_spawning_popen(None)
        self.sentinel, data_writer = process_obj._server.fork(self._fds)  # type: ignore[attr-defined]  # not in the stubs
        parent_alive = os.dup(data_writer)  # the child sees the service's end by it (`multiprocessing.parent_process`)
        self.finalizer = util.Finalize(
            self,
            util.close_fds,  # type: ignore[attr-defined]  # not in the stubs
            (parent_alive, self.sentinel),
        )
        with open(data_writer, "wb") as file:
            pid = forkserver.read_signed(self.sentinel)  # first: without a child, nothing could be written
            if pid < 0:
                raise OSError(-pid, os.strerror(-pid))
            self.pid = pid
            file.write(data.getbuffer())

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Returns the exit code, None until it is known."""
        if self.returncode is None and flag != os.WNOHANG:
            wait([self.sentinel])  # without the lock: others must not wait for this process to end
        with self._lock:
            if self.returncode is None:
                self.returncode = self._read_status()
            return self.returncode

    def _read_status(self) -> int | None:
        os.set_blocking(self.sentinel, False)
        try:
            status: int = forkserver.read_signed(self.sentinel)
        except BlockingIOError:
            return None
        except EOFError:
            return UNKNOWN_EXIT_CODE
        return status
