"""A forkserver per engine, with the user's modules loaded, and the `multiprocessing` process that is forked from it.

The standard library has one forkserver for the whole process: its preload list is fixed when it starts, and it lives as
long as that process. An engine needs its own, which no other engine or the surrounding application can interfere with,
and which ends with the engine. Every private name of the library that this needs is used in this file.

Source: `multiprocessing/forkserver.py` and `popen_forkserver.py` of CPython 3.11 to 3.14.
"""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from multiprocessing import forkserver, popen_forkserver, process, resource_tracker, spawn, util
from multiprocessing.connection import wait
from multiprocessing.context import reduction, set_spawning_popen  # type: ignore[attr-defined]  # not in the stubs
from typing import Any, Final

from offload.processes.proctree import read

# The user's modules, and what every worker would otherwise import before it is ready, for itself or to unpickle its
# `WorkerSpec` and its process object.
PRELOADED: Final = (
    "offload.worker.preload",
    "offload.worker.main",
    "offload.worker.entry",
    "offload.settings.table",
    __name__,
)

# The forkserver died before it could report how its child ended. No process has this exit code.
UNKNOWN_EXIT_CODE: Final = 1 << 16


# A worker needs nothing from the service's main module, and would run it again at each start. Its `sys.path` and start
# method are those of the forkserver, where the user's modules may have changed them.
_NOT_PASSED: Final = ("init_main_from_name", "init_main_from_path", "sys_path", "start_method")


Environment = Callable[[], AbstractContextManager[None]]


class OwnForkServer:
    """One forkserver process. Its methods block for milliseconds and are called from one thread, `end` from any.

    `environment` is entered only while the process is being started, and sets its environment variables. Any other
    process that is started meanwhile inherits them too.
    """

    def __init__(self, environment: Environment) -> None:
        self._server: Any = _Server(environment)  # private in the stubs
        self._server.set_forkserver_preload(list(PRELOADED))

    @property
    def pid(self) -> int | None:
        pid: int | None = self._server._forkserver_pid
        return pid

    def ensure_running(self) -> None:
        """Start the process unless it is running."""
        self._server.ensure_running()

    def fork(self, descriptors: list[int]) -> tuple[int, int]:
        """Fork a process; return (status to read, data to write) as `ForkServer.connect_to_new_process` does."""
        status, data = self._server.connect_to_new_process(descriptors)
        return status, data

    def kill(self) -> None:
        """Kill the process, even if it is stopped; a later `fork` starts another."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill the process for good. A `fork` that waits for it in another thread fails."""
        self._server.forbid_start()
        self.kill()

    def close(self) -> None:
        """Kill the process for good and wait for its end."""
        self.end()
        self._server._stop()  # the only way to reap it


class _Server(forkserver.ForkServer):
    """The library's forkserver, which is started again when it is needed after a kill."""

    def __init__(self, environment: Environment) -> None:
        super().__init__()
        self._environment = environment
        self._start_lock = threading.Lock()  # held for milliseconds
        self._may_start = True

    def ensure_running(self) -> None:
        resource_tracker.ensure_running()  # or the library would start it in the environment below
        with self._start_lock:
            if not self._may_start:
                raise EOFError("the forkserver has been closed")
            if not self._runs():
                with self._environment():
                    super().ensure_running()

    def forbid_start(self) -> None:
        """Make `ensure_running` raise; wait for a start that is under way."""
        with self._start_lock:
            self._may_start = False

    def _runs(self) -> bool:
        """Whether it is alive. Does not reap it: the library does."""
        pid: int | None = self._forkserver_pid  # type: ignore[attr-defined]  # not in the stubs
        info = None if pid is None else read(pid)
        return info is not None and not info.is_dead


class ForkserverProcess(process.BaseProcess):
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
            file.write(data.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)

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
