"""The service's side of the guard process: starts it, announces workers to it, replaces it when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

logger: Final = logging.getLogger("offload.engine")

_ROOT: Final = str(Path(__file__).parents[2])
_COMMAND: Final = f"import sys; sys.path.append({_ROOT!r}); from offload.processes.guard import main; main(sys.argv[1])"
_END_S: Final = 5.0
# A start that failed for want of memory, processes or descriptors is tried again after this pause.
_TRY_AGAIN_S: Final = 1.0


class GuardHandle:
    """Keeps one guard process running, which knows the living workers."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._workers: set[int] = set()
        self._loop = asyncio.get_running_loop()
        self._is_closing = False
        self._retry: asyncio.TimerHandle | None = None
        self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def watch(self, pid: int) -> None:
        """Announce a worker, which must not outlive the service."""
        self._workers.add(pid)
        self._send(f"+{pid}\n")

    def forget(self, pid: int) -> None:
        """Announce the end of a worker, whose id may be another process's by now."""
        self._workers.discard(pid)
        self._send(f"-{pid}\n")

    async def close(self) -> None:
        """End the guard and wait for it. May be called twice."""
        if not self._is_closing:
            self._is_closing = True
            if self._pipe >= 0:
                self._loop.remove_reader(self._pipe)
            if self._retry is not None:
                self._retry.cancel()
        await asyncio.to_thread(self._end)

    def _start(self) -> None:
        # -I -S: without site-packages, environment and the user's files it starts in milliseconds and cannot be broken.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _COMMAND, self._mark],
            stdin=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._pipe = self._process.stdin.fileno()
        os.set_blocking(self._pipe, False)
        # The writing end of a pipe becomes readable (POLLERR) when its reader is gone: the guard has ended.
        self._loop.add_reader(self._pipe, self._replace)
        for pid in self._workers:
            self._send(f"+{pid}\n")

    def _replace(self) -> None:
        if self._pipe < 0:
            return  # it is being replaced, or was closed
        self._loop.remove_reader(self._pipe)
        if self._is_closing:
            return
        logger.warning("guard process ended, starting another", extra={"fields": {"pid": self._process.pid}})
        self._start_another()

    def _start_another(self) -> None:
        self._drop()
        try:
            self._start()
        except OSError:
            self._drop()  # the process may exist already
            message = "guard process could not be started: workers would outlive a killed service"
            logger.exception(message, extra={"fields": {"retry_s": _TRY_AGAIN_S}})
            self._retry = self._loop.call_later(_TRY_AGAIN_S, self._start_another)

    def _drop(self) -> None:
        """Kill the guard before it closes the pipe, whose end would make it kill the workers. May be called twice."""
        self._process.kill()
        self._process.wait()
        self._close_pipe()

    def _send(self, line: str) -> None:
        if self._pipe < 0:
            return
        try:
            # One write of less than PIPE_BUF bytes arrives whole or not at all (pipe(7)).
            os.write(self._pipe, line.encode("ascii"))
        except OSError:
            # It has ended (then `_replace` is about to be called), or was stopped for so long that the pipe is full.
            self._loop.call_soon(self._replace)

    def _end(self) -> None:
        self._close_pipe()
        try:
            self._process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _close_pipe(self) -> None:
        self._pipe = -1  # the number may be reused from now on
        if self._process.stdin is not None:
            self._process.stdin.close()
