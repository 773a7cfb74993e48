"""The service's side of the guard: start it, tell it of workers, replace it when it dies.

The launcher owns one `GuardHandle` from its `open` to its `close`.
"""

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
_COMMAND: Final = (
    f"import sys; sys.path.insert(0, {_ROOT!r}); from offload.processes.guard import main; main(sys.argv[1])"
)
_END_S: Final = 5.0
# What is refused for want of memory, processes or descriptors may be there a moment later.
_TRY_AGAIN_S: Final = 1.0


class GuardHandle:
    """Keeps one guard process that knows the living workers."""

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
        """A new worker: it must not outlive the service."""
        self._workers.add(pid)
        self._tell(f"+{pid}\n")

    def forget(self, pid: int) -> None:
        """That worker has ended; its id may be somebody else's by now."""
        self._workers.discard(pid)
        self._tell(f"-{pid}\n")

    async def close(self) -> None:
        """Lets it end and waits for it.  May be called twice."""
        if not self._is_closing:
            self._is_closing = True
            if self._pipe >= 0:
                self._loop.remove_reader(self._pipe)
            if self._retry is not None:
                self._retry.cancel()
        await asyncio.to_thread(self._end)

    def _start(self) -> None:
        # -I -S: no site-packages, no environment, no user's files: it starts in milliseconds and nothing can break it.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _COMMAND, self._mark],
            stdin=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._pipe = self._process.stdin.fileno()
        os.set_blocking(self._pipe, False)
        # A pipe's writing end becomes readable (POLLERR) when nobody is left who reads: the guard is gone.
        self._loop.add_reader(self._pipe, self._replace)
        for pid in self._workers:
            self._tell(f"+{pid}\n")

    def _replace(self) -> None:
        if self._pipe < 0:
            return  # it is being replaced, or was let go
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
            self._drop()  # it may have come as far as being a process
            message = "no guard process could be started: if the service were killed now, its workers would live on"
            logger.exception(message, extra={"fields": {"retry_s": _TRY_AGAIN_S}})
            self._retry = self._loop.call_later(_TRY_AGAIN_S, self._start_another)

    def _drop(self) -> None:
        """Ends it, before its pipe: a guard whose pipe ends kills the workers.  May be called twice."""
        self._process.kill()
        self._process.wait()
        self._close_pipe()

    def _tell(self, line: str) -> None:
        if self._pipe < 0:
            return
        try:
            # One write of less than PIPE_BUF bytes arrives whole or not at all (pipe(7)).
            os.write(self._pipe, line.encode("ascii"))
        except OSError:
            # It is gone (then `_replace` is on its way), or was stopped for so long that the pipe is full.
            self._loop.call_soon(self._replace)

    def _end(self) -> None:
        self._close_pipe()
        try:
            self._process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _close_pipe(self) -> None:
        self._pipe = -1  # the number may be somebody else's from now on
        if self._process.stdin is not None:
            self._process.stdin.close()
