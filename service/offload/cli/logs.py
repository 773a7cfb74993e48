"""The log of the served process, on stderr.

Lives here: the shape of a line, `2026-01-01T00:00:00.000Z INFO  worker crashed lane=1 signal=SIGSEGV`, and the one
thread that formats and writes, so that a reader that stalls holds up this thread and never the event loop.  What is
logged, and when, is the business of others: they pass a constant message and `extra={"fields": {...}}`.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import threading
import time
import traceback
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from operator import length_hint
from typing import Final

# At the 4 KiB that a printed line has at most, a stalled reader costs 80 MB of memory; at 200 bytes, as is usual, 4 MB.
_QUEUED_LINES: Final = 20_000
# For a batch that does not say how many lines it has.
_BATCH_LINES: Final = 2_000
_TELL_DROPPED_EVERY_S: Final = 1.0
_FLUSH_S: Final = 2.0
_STDERR: Final = 2

_LEVELS: Final = {logging.WARNING: "WARN", logging.CRITICAL: "FATAL"}
_NEEDS_QUOTES: Final = frozenset(' "=\\')


@contextmanager
def log_output(level: str, descriptor: int = _STDERR) -> Iterator[None]:
    """While the block runs, log records become lines on `descriptor`: ours from `level` up, others' from WARNING up.

    On exit what is queued is written, within two seconds; a reader that does not read by then gets no more.
    """
    ours, root = logging.getLogger("offload"), logging.getLogger()
    threshold = logging.getLevelNamesMapping()[level.upper()]
    levels_before = ours.level, root.level
    handler = _QueueingHandler()
    writer = threading.Thread(target=_write_all, args=(handler, descriptor), name="offload-log", daemon=True)
    root.addHandler(handler)
    ours.setLevel(threshold)
    root.setLevel(max(threshold, logging.WARNING))
    writer.start()
    try:
        yield
    finally:
        root.removeHandler(handler)
        ours.setLevel(levels_before[0])
        root.setLevel(levels_before[1])
        handler.close()
        writer.join(_FLUSH_S)


class _QueueingHandler(logging.Handler):
    """Hands records to the writing thread; never waits.  Without room a record is dropped and counted."""

    def __init__(self) -> None:
        super().__init__()
        # None ends the writing thread.
        self.records: queue.SimpleQueue[logging.LogRecord | None] = queue.SimpleQueue()
        # Lines, counted.  The first two are written under this handler's lock, which `emit` is called with, and
        # `taken_total` by the writing thread alone: no count is ever lost, and none has a lock that a writer holds.
        self.queued_total = 0
        self.dropped_total = 0
        self.taken_total = 0
        _leave_behind_on_fork(self)

    def emit(self, record: logging.LogRecord) -> None:
        size = _size(record)
        if self.queued_total - self.taken_total + size > _QUEUED_LINES:
            self.dropped_total += size
        else:
            self.queued_total += size
            self.records.put(record)

    def close(self) -> None:
        """What is queued is still written, then the writing thread ends."""
        self.records.put(None)
        super().close()


def _size(record: logging.LogRecord) -> int:
    """In lines.  A message with a method `lines()` is a batch, and may have a length."""
    return length_hint(record.msg, _BATCH_LINES) if hasattr(record.msg, "lines") else 1


def _leave_behind_on_fork(handler: logging.Handler) -> None:
    """A forked child has no writing thread: what it logs must not go into a queue that nobody reads."""
    reference = weakref.ref(handler)

    def remove() -> None:
        copy = reference()
        if copy is not None:
            logging.getLogger().removeHandler(copy)

    os.register_at_fork(after_in_child=remove)


def _write_all(handler: _QueueingHandler, descriptor: int) -> None:
    """The writing thread."""
    told_total, tell_at = 0, 0.0
    for record in iter(handler.records.get, None):
        handler.taken_total += _size(record)
        _write(descriptor, _text(record))
        if handler.dropped_total > told_total and time.monotonic() >= tell_at:
            told_total = _tell_dropped(handler, descriptor, told_total)
            tell_at = time.monotonic() + _TELL_DROPPED_EVERY_S
    if handler.dropped_total > told_total:
        _tell_dropped(handler, descriptor, told_total)


def _tell_dropped(handler: _QueueingHandler, descriptor: int, told_total: int) -> int:
    dropped_total = handler.dropped_total
    count = dropped_total - told_total
    _write(descriptor, f"{_head(time.time(), logging.WARNING)} log lines were dropped count={count}\n")
    return dropped_total


def _write(descriptor: int, text: str) -> None:
    """Writes past `sys.stderr`: a thread stuck inside a stream holds a lock that the interpreter's end needs."""
    rest = memoryview(text.encode("utf-8", "backslashreplace"))
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # somebody who shares our stderr has made it so
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
        except OSError:
            return  # nobody is there to read, and nowhere else to say so


def _text(record: logging.LogRecord) -> str:
    """The lines of a record; one that cannot be told is a bug that must not end the thread."""
    try:
        return format_record(record)
    except Exception as error:
        head = _head(record.created, logging.ERROR)
        return f"{head} log record could not be formatted logger={record.name} exception={type(error).__name__}\n"


def format_record(record: logging.LogRecord) -> str:
    """A line, and below it, indented, the traceback if there is one; of a batch each of its lines."""
    head = _head(record.created, record.levelno)
    if hasattr(record.msg, "lines"):
        return _batch(head, list(record.msg.lines()))
    fields: Mapping[str, object] = getattr(record, "fields", {})
    if record.name.partition(".")[0] != "offload":
        fields = {**fields, "logger": record.name}
    text = f"{head} {_escape(record.getMessage())}{_fields(fields)}\n"
    if record.exc_info and record.exc_info[0] is not None:
        for line in "".join(traceback.format_exception(*record.exc_info)).splitlines():
            text += f"    {_escape(line)}\n"
    return text


def _batch(head: str, lines: list[str]) -> str:
    """All at once, and in one write: each time that this thread wants the interpreter's lock back it is in the event
    loop's way, which then wakes it, most often in vain, whenever it lets go of the lock for a moment."""
    if not "".join(lines).isprintable():
        lines = [_escape(line) for line in lines]
    return "".join([f"{head} ", f"\n{head} ".join(lines), "\n"]) if lines else ""


def _head(created: float, level: int) -> str:
    instant = datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")
    name = _LEVELS.get(level) or logging.getLevelName(level)
    return f"{instant.removesuffix('+00:00')}Z {name:5}"


def _fields(fields: Mapping[str, object]) -> str:
    return "".join(f" {name}={_value(value)}" for name, value in fields.items())


def _value(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    if text and text.isprintable() and _NEEDS_QUOTES.isdisjoint(text):
        return text
    return '"' + _escape(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _escape(text: str) -> str:
    """Without what could begin a new line or speak to a terminal: a task must not be able to forge the log."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)
