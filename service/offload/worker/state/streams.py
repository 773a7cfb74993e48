"""The standard streams of a worker: descriptors 0, 1 and 2, and `sys.stdin`, `sys.stdout` and `sys.stderr`.

Stdin is empty. Stdout and stderr, also those of C code and child processes, are the pipe `output`, which the service
reads. A job may close, replace or redirect each of them; `restore` undoes that before the next job begins.
"""

from __future__ import annotations

import fcntl
import io
import os
import struct
import sys
import termios
from contextlib import suppress
from typing import Any, Final

_NAMES: Final = ("stdin", "stdout", "stderr")
_ENCODING: Final = "utf-8"
_ERRORS: Final = "backslashreplace"

# Status flags that no other file at these descriptors has, so that F_GETFL tells ours from another. They change
# nothing else: a pipe's access time is not used, and nothing can be appended to a file that is open for reading.
_OUTPUT_MARK: Final = getattr(os, "O_NOATIME", 0)
_INPUT_MARK: Final = os.O_APPEND

# The result of FIONREAD for an empty pipe, a C int.
_NO_BYTES: Final = bytes(struct.calcsize("i"))

# What F_SETFL can change. It changes the pipe for all who have it open, so a child process may have done it.
_CHANGEABLE: Final = os.O_NONBLOCK | os.O_ASYNC | os.O_APPEND | getattr(os, "O_DIRECT", 0)

_F_GETFL: Final = fcntl.F_GETFL
_FIONREAD: Final = termios.FIONREAD


class _OpenBuffer(io.BufferedWriter):
    """Stays open when a task closes the stream around it, and when another stream around it is collected."""

    def close(self) -> None:
        self.flush()


class StandardStreams:
    """Redirects the standard streams when it is made."""

    def __init__(self, output: int) -> None:
        self._output = output
        self.input_flags = _open_empty_input()
        with suppress(OSError):  # another user's pipe cannot be marked
            fcntl.fcntl(output, fcntl.F_SETFL, fcntl.fcntl(output, _F_GETFL) | _OUTPUT_MARK)
        self.output_flags = fcntl.fcntl(output, _F_GETFL)
        os.dup2(output, 1)
        os.dup2(output, 2)
        self._made = {"stdin": _text_reader(), "stdout": _text_writer(1), "stderr": _text_writer(2)}
        for name, stream in self._made.items():
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)  # the parent's would buffer what is printed
        self.expected: dict[str, Any] = {}
        self.codecs: dict[str, tuple[Any, Any]] = {}
        self._waiting = bytearray(_NO_BYTES)
        self.expect_present()

    def expect_present(self) -> None:
        """Take the present streams as those of every job: the user's start-up functions may have replaced them."""
        self.expected = {name: _present(name) for name in _NAMES}
        self.codecs = {name: _codec_of(stream) for name, stream in self.expected.items()}

    def restore(self) -> str:
        """Flush what was printed, and undo what the last job has changed. Returns a problem, else ""."""
        for name in _NAMES:
            self._restore_stream(name, self.expected[name])
        try:
            return self._restore_descriptors()
        except OSError as error:
            return f"the standard streams cannot be opened again ({error.strerror})"

    def has_output(self) -> bool:
        """Returns whether printed output is unread: it must be read as this job's before the next job begins."""
        try:
            fcntl.ioctl(1, _FIONREAD, self._waiting)  # also works on the write end: pipe(7)
        except OSError:
            return True  # unknown
        return self._waiting != _NO_BYTES

    def _restore_stream(self, name: str, stream: Any) -> None:
        """Put a stream back. What the job put in its place is flushed: the job may still have that object."""
        present = _present(name)
        if present is not stream:
            with suppress(Exception):
                present.flush()
            setattr(sys, name, stream)
        del present  # here it may be collected and close the descriptor, which is checked next
        if not _works(name, stream):
            stream = self._made[name]
            setattr(sys, name, stream)
            _open_again(name, stream)
            self.expected[name], self.codecs[name] = stream, _codec_of(stream)
        elif name != "stdin" and stream is self._made[name] and _codec_of(stream) != self.codecs[name]:
            encoding, errors = self.codecs[name]
            stream.reconfigure(encoding=encoding, errors=errors)

    def _restore_descriptors(self) -> str:
        if _flags(0) != self.input_flags:
            _open_empty_input()
        flags = _flags(self._output)
        if flags & ~_CHANGEABLE != self.output_flags & ~_CHANGEABLE:
            return "the descriptor of the worker's output was closed"
        if flags != self.output_flags:
            fcntl.fcntl(self._output, fcntl.F_SETFL, self.output_flags)
        for descriptor in (1, 2):
            if _flags(descriptor) != self.output_flags:
                os.dup2(self._output, descriptor)
        return ""


def flush_output() -> None:
    """Flush stdout and stderr; a task may have closed or replaced them."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


def _open_empty_input() -> int:
    """Make descriptor 0 an empty file; return its status flags."""
    null = os.open(os.devnull, os.O_RDONLY | _INPUT_MARK)
    if null:  # 0 if that was closed
        os.dup2(null, 0)
        os.close(null)
    else:
        os.set_inheritable(0, True)
    return fcntl.fcntl(0, _F_GETFL)


def _text_reader() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.FileIO(0, closefd=False), encoding=_ENCODING)


def _text_writer(descriptor: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(_buffer(descriptor), encoding=_ENCODING, errors=_ERRORS, line_buffering=True)


def _buffer(descriptor: int) -> io.BufferedWriter:
    return _OpenBuffer(io.FileIO(descriptor, "w", closefd=False))


def _open_again(name: str, stream: Any) -> None:
    """Open a closed or detached stream again: the same object, which a logger may hold."""
    if name == "stdin":
        stream.__init__(io.FileIO(0, closefd=False), encoding=_ENCODING)
    else:
        buffer = _buffer(1 if name == "stdout" else 2)
        stream.__init__(buffer, encoding=_ENCODING, errors=_ERRORS, line_buffering=True)


def _works(name: str, stream: Any) -> bool:
    try:
        if name == "stdin":
            return not stream.closed
        stream.flush()
    except Exception:
        return False
    return True


def _present(name: str) -> Any:
    return getattr(sys, name, None)


def _codec_of(stream: Any) -> tuple[Any, Any]:
    return getattr(stream, "encoding", None), getattr(stream, "errors", None)


def _flags(descriptor: int) -> int:
    """Returns the status flags of a descriptor, -1 if it is closed."""
    try:
        return fcntl.fcntl(descriptor, _F_GETFL)
    except OSError:
        return -1
