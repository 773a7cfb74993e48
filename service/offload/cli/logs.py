"""Write the log to stderr, with lines such as `2026-01-01T00:00:00.000Z INFO  worker crashed lane=1 signal=SIGSEGV`.

Callers pass a constant message and `extra={"fields": {...}}`. One thread formats and writes the lines, so that a reader
that stalls blocks this thread and never the event loop.
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

# With a stalled reader this many lines take 4 MB at the usual 200 bytes, and 80 MB at the 4 KiB of the longest.
_QUEUED_LINES: Final = 20_000
# The size of a batch that does not report its length.
_BATCH_LINES: Final = 2_000
_REPORT_DROPPED_EVERY_S: Final = 1.0
_FLUSH_S: Final = 2.0
_STDERR: Final = 2

_LEVELS: Final = {logging.WARNING: "WARN", logging.CRITICAL: "FATAL"}
_NEEDS_QUOTES: Final = frozenset(' "=\\')


@contextmanager
def log_output(level: str, descriptor: int = _STDERR) -> Iterator[None]:
    """Write log records as lines to `descriptor`: those of this package from `level` up, others from WARNING up.

    At the end of the block queued lines are written within two seconds; later ones are lost if the reader stalls.
    """
    package, root = logging.getLogger("offload"), logging.getLogger()
    threshold = logging.getLevelNamesMapping()[level.upper()]
    levels_before = package.level, root.level
    handler = _QueueingHandler()
    writer = threading.Thread(target=_write_all, args=(handler, descriptor), name="offload-log", daemon=True)
    root.addHandler(handler)
    package.setLevel(threshold)
    root.setLevel(max(threshold, logging.WARNING))
    writer.start()
    try:
        yield
    finally:
        root.removeHandler(handler)
        package.setLevel(levels_before[0])
        root.setLevel(levels_before[1])
        handler.close()
        writer.join(_FLUSH_S)


class _QueueingHandler(logging.Handler):
    """Passes records to the writing thread without waiting. If the queue is full, a record is dropped and counted."""

    def __init__(self) -> None:
        super().__init__()
        # None ends the writing thread.
        self.records: queue.SimpleQueue[logging.LogRecord | None] = queue.SimpleQueue()
        # Numbers of lines. The first two are written by `emit`, under this handler's lock, and `taken_total` by the
        # writing thread only, so no count is lost and the writing thread needs no lock.
        self.queued_total = 0
        self.dropped_total = 0
        self.taken_total = 0
        _remove_after_fork(self)

    def emit(self, record: logging.LogRecord) -> None:
        size = _size(record)
        if self.queued_total - self.taken_total + size > _QUEUED_LINES:
            self.dropped_total += size
        else:
            self.queued_total += size
            self.records.put(record)

    def close(self) -> None:
        """Let the writing thread end after it has written what is queued."""
        self.records.put(None)
        super().close()


def _size(record: logging.LogRecord) -> int:
    """Returns the number of lines. A message with a method `lines()` is a batch and may have a length."""
    return length_hint(record.msg, _BATCH_LINES) if hasattr(record.msg, "lines") else 1


def _remove_after_fork(handler: logging.Handler) -> None:
    """Remove the handler in forked children: they have no writing thread, so nothing would read the queue."""
    reference = weakref.ref(handler)

    def remove() -> None:
        copy = reference()
        if copy is not None:
            logging.getLogger().removeHandler(copy)

    os.register_at_fork(after_in_child=remove)


def _write_all(handler: _QueueingHandler, descriptor: int) -> None:
    """Write all records; runs in the writing thread."""
    reported_total, report_at = 0, 0.0
    for record in iter(handler.records.get, None):
        handler.taken_total += _size(record)
        _write(descriptor, _text(record))
        if handler.dropped_total > reported_total and time.monotonic() >= report_at:
            reported_total = _report_dropped(handler, descriptor, reported_total)
            report_at = time.monotonic() + _REPORT_DROPPED_EVERY_S
    if handler.dropped_total > reported_total:
        _report_dropped(handler, descriptor, reported_total)


def _report_dropped(handler: _QueueingHandler, descriptor: int, reported_total: int) -> int:
    dropped_total = handler.dropped_total
    count = dropped_total - reported_total
    _write(descriptor, f"{_head(time.time(), logging.WARNING)} log lines were dropped count={count}\n")
    return dropped_total


def _write(descriptor: int, text: str) -> None:
    """Write past `sys.stderr`: a thread blocked in a stream holds a lock that the interpreter needs at exit."""
    rest = memoryview(text.encode("utf-8", "backslashreplace"))
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # a process that shares stderr has made it non-blocking
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
        except OSError:
            return  # the reader has gone, and there is nowhere else to report that


def _text(record: logging.LogRecord) -> str:
    """Returns the lines of a record. One that cannot be formatted is a bug, which must not end the thread."""
    try:
        return format_record(record)
    except Exception as error:
        head = _head(record.created, logging.ERROR)
        return f"{head} log record could not be formatted logger={record.name} exception={type(error).__name__}\n"


def format_record(record: logging.LogRecord) -> str:
    """Returns the line of a record with its traceback indented below, or the lines of a batch."""
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
    """Returns all lines as one text, for a single write.

    While this thread waits for the interpreter's lock after a write, the event loop wakes it, mostly in vain, each time
    that it releases the lock for a moment.
    """
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
    """Escape line breaks and control characters: a task must not be able to forge a line or control a terminal."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)
