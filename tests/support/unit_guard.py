"""Stop unit tests from starting processes and opening sockets."""

from __future__ import annotations

import _posixsubprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import pytest

_PROCESS_EVENTS: Final = frozenset(
    ("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen")
)
# Every event loop of asyncio has a socket pair to wake itself up.
_LOOPS_OWN_SOCKETS: Final = "_make_self_pipe"


class UnitGuard:
    """Watches the interpreter's audit events; an audit hook cannot be removed, so the guard is armed per test."""

    def __init__(self) -> None:
        self._is_armed = False
        sys.addaudithook(self._on_event)
        # multiprocessing's "spawn" and "forkserver" call this function, which raises no audit event.
        self._fork_exec = _posixsubprocess.fork_exec
        vars(_posixsubprocess)["fork_exec"] = self._guarded_fork_exec

    @contextmanager
    def armed(self, is_armed: bool) -> Iterator[None]:
        before, self._is_armed = self._is_armed, is_armed
        try:
            yield
        finally:
            self._is_armed = before

    def _on_event(self, event: str, _arguments: tuple[object, ...]) -> None:
        if not self._is_armed:
            return
        if event in _PROCESS_EVENTS:
            _fail("start a process")
        elif event == "socket.__new__" and not _is_in(_LOOPS_OWN_SOCKETS):
            _fail("open a socket")

    def _guarded_fork_exec(self, *arguments: Any) -> int:
        if self._is_armed:
            _fail("start a process")
        return self._fork_exec(*arguments)


def _fail(what: str) -> None:
    pytest.fail(f"a unit test must not {what}; mark the test `service` or move it to tests/service")


def _is_in(function: str) -> bool:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_name != function:
        frame = frame.f_back
    return frame is not None
