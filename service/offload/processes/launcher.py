"""Starts processes, by any of the three start methods, in a thread of its own.

Starting a process blocks for milliseconds, or for as long as a stopped forkserver stays stopped, so it never happens on
the event loop. The hunt for strays shares the thread: a process that is just being started would look like a stray.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing.process import BaseProcess
from secrets import token_hex
from typing import Final

from offload.errors import StartError
from offload.processes.children import ForkedProcess, LimitedProcess, SpawnedProcess
from offload.processes.forkserver import ForkserverProcess, OwnForkServer
from offload.processes.guard_handle import GuardHandle
from offload.processes.killing import kill_strays
from offload.processes.limits import descriptors_limited
from offload.processes.proctree import all_processes, descendants, read
from offload.processes.safe_path import safe_path, start_tracker
from offload.settings.table import StartMethod
from offload.tasks.targets.loading import targets_to_json
from offload.wire.spec import PRELOAD_VARIABLE, LoadSpec
from offload.worker.isolation import limit_library_threads

MARK_VARIABLE: Final = "OFFLOAD_TREE"

# All engines of this process share one environment. Held for milliseconds, but during an import with `fork`.
_environment_lock: Final = threading.Lock()


class Launcher:
    """Starts processes for one engine. All that it starts by exec have `mark` in their environment.

    `descriptor_limit` is the limit on open files of the processes; None is that of the service.
    """

    def __init__(self, start_method: StartMethod, spec: LoadSpec, *, descriptor_limit: int | None = None) -> None:
        self.start_method = start_method
        self.mark = f"{MARK_VARIABLE}={token_hex(16)}"
        self.descriptor_limit = descriptor_limit
        self._spec = spec
        self._forkserver = (
            OwnForkServer(self._environment, descriptor_limit) if start_method == StartMethod.FORKSERVER else None
        )
        self._is_preloading = True
        self._known: set[int] = set()
        # What the user's modules started when they were imported, id → start_ticks, and by which forkserver.
        self._helpers: dict[int, int] = {}
        self._helpers_of: int | None = None
        self._guard: GuardHandle | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="offload-launcher")

    def warm_up(self) -> None:
        """Start the forkserver, which begins to load the user's modules. Blocks for milliseconds.

        Call it in a thread that lives as long as the service: the forkserver ends with the thread that starts it. (One
        that dies later is replaced from the launcher's thread, which lives as long as the launcher.)

        With `spawn` and `fork` there is nothing to do yet.
        """
        start_tracker()  # first, so that it does not carry the mark
        if self._forkserver is not None:
            self._forkserver.ensure_running()

    async def prepare(self, *, can_be_copied: bool) -> None:
        """Make what workers will be copies of: call it once, when the targets have been described.

        If a process that has loaded them cannot be copied, each worker loads them. Otherwise the forkserver has them;
        with `fork` they are loaded in this process, as a program of its own would load them.
        """
        if self._forkserver is None:
            await self.hunt_strays()  # what the modules have started in the process that described them
        if not can_be_copied:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._load_in_workers)
        elif self.start_method == StartMethod.FORK:
            limit_library_threads(self._spec.library_threads)  # libraries read it once, at import
            from offload.worker.imports.preload import load_in_service

            # In the environment of a start, so that what the modules start ends with the service.
            with self._environment(), _no_running_loop(), descriptors_limited(self.descriptor_limit):
                load_in_service(self._spec.targets)

    def open(self) -> None:
        """Start the guard: from here on nothing that is started outlives this process. Needs a running event loop."""
        self._guard = GuardHandle(self.mark)

    async def start(self, target: Callable[..., None], argument: object, *, name: str) -> BaseProcess:
        """Start a process that runs `target(argument)`. Raises StartError."""
        process = self.make(target, argument, name=name)
        loop = asyncio.get_running_loop()
        pid = await loop.run_in_executor(self._thread, self._start, process)
        self.watch(pid)
        return process

    def make(self, target: Callable[..., None], *arguments: object, name: str) -> BaseProcess:
        """Returns a process that has not been started yet, to run `target(*arguments)`."""
        process: LimitedProcess
        if self._forkserver is not None:
            process = ForkserverProcess(self._forkserver, target=target, args=arguments, name=name)
        else:
            make = ForkedProcess if self.start_method == StartMethod.FORK else SpawnedProcess
            process = make(target=target, args=arguments, name=name)
        process.descriptor_limit = self.descriptor_limit
        return process

    def start_made(self, process: BaseProcess) -> None:
        """Start what `make` returned. Blocks; the event loop must then call `watch`. Raises StartError."""
        try:
            self._thread.submit(self._start, process).result()
        except (RuntimeError, CancelledError) as error:  # the thread was shut down
            raise StartError("the service is ending") from error

    def watch(self, pid: int) -> None:
        """Announce a process that `start_made` started: it must not outlive the service."""
        if self._guard is not None:
            self._guard.watch(pid)

    def forget(self, pid: int) -> None:
        """Announce the end of a process, whose id may be another's by now."""
        self._known.discard(pid)
        if self._guard is not None:
            self._guard.forget(pid)

    async def hunt_strays(self) -> None:
        """Kill what dead workers left behind: marked processes that no longer belong to a worker.

        A fork of this process itself (start method `fork`) does not have the mark.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._hunt_strays)

    @property
    def forkserver_pid(self) -> int | None:
        """None while no forkserver runs, and with the other start methods."""
        return None if self._forkserver is None else self._forkserver.pid

    def kill_forkserver(self) -> None:
        """Kill the forkserver: a stopped one would block a start forever. The next start brings up another."""
        if self._forkserver is not None:
            self._forkserver.kill()

    async def close(self) -> None:
        """End the forkserver, the guard and the thread. May be called twice."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self._forkserver is not None:
            self._forkserver.end()  # or a start that is under way would wait for it, or start another
        await asyncio.to_thread(self._thread.shutdown)
        if self._forkserver is not None:
            await asyncio.to_thread(self._forkserver.close)
        if self._guard is not None:
            await self._guard.close()

    def _load_in_workers(self) -> None:
        """Replace a forkserver that has loaded the modules by one that has not, with everything that they started."""
        if self._forkserver is not None:
            self._is_preloading = False
            pid = self._forkserver.pid
            self._forkserver.kill()
            if pid is not None and hasattr(os, "waitid"):
                with suppress(ChildProcessError):
                    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            self._forkserver.ensure_running()
        else:
            import offload.worker.main  # noqa: F401  # what workers need is loaded once: pydantic above all
        self._helpers.clear()
        self._hunt_strays()

    def _hunt_strays(self) -> None:
        keep = {os.getpid()}
        if self.forkserver_pid is not None:
            keep.add(self.forkserver_pid)
        if self._guard is not None:
            keep.add(self._guard.pid)  # it may have been started while the mark was in this environment
        infos = {pid: read(pid) for pid in self._helpers}
        living = {pid for pid, info in infos.items() if info is not None and info.start_ticks == self._helpers[pid]}
        # Without a forkserver the mark is in this environment during each start, and what the surrounding application
        # starts at that moment inherits it. That process is a child of the service, which a stray never is: a process
        # that loses its parent is adopted by the nearest subreaper above, or by process 1. If the service itself is one
        # of these, a stray lives until the guard ends it with the service, which is better than killing a bystander.
        parent = os.getpid() if self._forkserver is None else None
        kill_strays(self.mark.encode("ascii"), known=self._known | living, keep=keep, spared_parent=parent)

    def _note_helpers(self, newborn: int) -> None:
        """Note what else descends from a forkserver at its first fork: the modules that it has loaded started it (for
        example a server of `multiprocessing.Manager`). All workers may use it, so it is not a stray."""
        if self.forkserver_pid is None or self.forkserver_pid == self._helpers_of:
            return
        self._helpers_of = self.forkserver_pid
        processes = all_processes()
        helpers = descendants({self.forkserver_pid}, processes) - {newborn} - descendants({newborn}, processes)
        self._helpers.update((pid, processes[pid].start_ticks) for pid in helpers)

    def _start(self, process: BaseProcess) -> int:
        start_tracker()  # or the start would replace a dead one, with the mark
        # A forkserver has its environment already. It may be stopped and block this thread, while others need the lock.
        environment = self._environment() if self._forkserver is None else nullcontext()
        path = safe_path() if self.start_method == StartMethod.SPAWN else nullcontext()
        with environment, path, _signals_blocked(self.start_method == "fork"):
            try:
                process.start()
            except (OSError, EOFError) as error:
                raise StartError(str(error) or type(error).__name__) from error
        if process.pid is None:
            raise StartError("it has no process id")
        self._known.add(process.pid)
        self._note_helpers(process.pid)
        return process.pid

    @contextmanager
    def _environment(self) -> Iterator[None]:
        """Set what a process must find in its environment from its first moment on.

        The only way is to set it in this process's environment. It is removed after the start: what the surrounding
        application or another engine starts must not have the mark.
        """
        added = dict([self.mark.split("=")])
        if self._forkserver is not None:
            added[PRELOAD_VARIABLE] = json.dumps(
                {
                    "targets": targets_to_json(self._spec.targets) if self._is_preloading else [],
                    "library_threads": self._spec.library_threads,
                    "service_pid": os.getpid(),
                }
            )
        with _environment_lock:
            before = {name: os.environ.get(name) for name in added}
            os.environ.update(added)
            try:
                yield
            finally:
                for name, value in before.items():
                    if value is None:
                        del os.environ[name]
                    else:
                        os.environ[name] = value  # this service was started by a task of another


@contextmanager
def _no_running_loop() -> Iterator[None]:
    """Hide the running event loop from modules that are being imported: `asyncio.run` works in a program."""
    loop = asyncio.get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)


@contextmanager
def _signals_blocked(is_fork: bool) -> Iterator[None]:
    """Block signals with `fork`: until the child has its own handlers, a signal to it would reach the service."""
    if not is_fork:
        yield
        return
    with warnings.catch_warnings():
        # Python 3.12 and newer warn about forks with threads; the documentation says what `fork` weakens.
        warnings.simplefilter("ignore", DeprecationWarning)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
