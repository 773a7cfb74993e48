"""Splits what a process prints into lines, and follows progress bars, in constant memory.

A bar redraws its line: it returns to the start with a carriage return, or moves the cursor up. Of a line that is
redrawn, only the latest state is kept. It is logged when the line ends, and now and then while it changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

MAX_LINE_BYTES: Final = 4096
# A person follows a bar at this pace, and an hour of it is 3,600 lines.
STATE_EVERY_S: Final = 1.0

# Control sequences (ECMA-48): any, the ones that move the cursor up, and the ones that move it to the first column.
_SEQUENCE: Final = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]")
_CURSOR_UP: Final = re.compile(rb"\x1b\[\d*A")
_FIRST_COLUMN: Final = re.compile(rb"\x1b\[[01]?G")


class Piece(NamedTuple):
    """Up to MAX_LINE_BYTES of a line, and how many more bytes it had."""

    kept: bytes = b""
    left_out: int = 0

    def followed_by(self, more: bytes) -> Piece:
        room = MAX_LINE_BYTES - len(self.kept)
        return Piece(self.kept + more[:room], self.left_out + max(0, len(more) - room))

    @property
    def is_blank(self) -> bool:
        return _is_blank(self.kept)

    def text(self) -> str:
        """Returns what to log; bytes that are not UTF-8 are escaped."""
        if not self.left_out:
            return self.kept.decode("utf-8", "backslashreplace")
        kept = _without_half_a_character(self.kept)
        left_out = self.left_out + len(self.kept) - len(kept)
        return f"{kept.decode('utf-8', 'backslashreplace')}… ({left_out:,} more bytes)"


_NOTHING: Final = Piece()


class LineSplitter:
    """Splits the output of one process. Empty lines are left out."""

    def __init__(self) -> None:
        self._current = _NOTHING  # since the last carriage return
        self._before = _NOTHING  # the last state that a carriage return ended, unless it was blank
        self._is_redrawn = False
        self._moves_up = False
        self._state: Piece | None = None  # the latest of a bar
        self._logged: Piece | None = None  # the one that was logged last
        self._next_state_at: float | None = None

    def feed(self, data: bytes, now: float, may_log: Callable[[int], int]) -> list[str]:
        """Returns the lines that end in `data`, as many as `may_log(their number)` allows."""
        ends = data.count(b"\n")
        allowed = may_log(ends)
        *whole, rest = data.split(b"\n", allowed)
        lines: list[str] = []
        for piece in whole:
            lines += self._end_line(piece)
        if allowed < ends:
            self._forget_line()
            self._state = None
            rest = rest[rest.rfind(b"\n") + 1 :]
        self._extend(rest)
        if self._is_redrawn:
            self._note_state(self._latest())
        if self._state is not None and self._next_state_at is None:
            self._next_state_at = now + STATE_EVERY_S
        return lines

    def wait_s(self, now: float) -> float | None:
        """Returns in how many seconds to log the state of a bar, or None if nothing has changed."""
        if self._state is None or self._state == self._logged or self._next_state_at is None:
            return None
        return max(0.0, self._next_state_at - now)

    def take_state(self, now: float) -> str:
        """Returns the state of the bar, to be logged now."""
        if self._state is None:
            raise ValueError("the line has no bar")
        self._logged, self._next_state_at = self._state, now + STATE_EVERY_S
        kept = _without_half_a_character(self._state.kept)  # the next read may have the rest
        return Piece(kept, self._state.left_out).text()

    def end(self) -> list[str]:
        """Returns what is left at the end of a job: the last state of a bar, or a line that did not end."""
        lines = self._end_line(b"")
        if self._state is not None and self._state != self._logged:
            lines.append(self._state.text())
        self._state = self._logged = self._next_state_at = None
        return lines

    def _end_line(self, piece: bytes) -> list[str]:
        self._extend(piece)
        line, is_redrawn, moves_up = self._latest(), self._is_redrawn, self._moves_up
        self._forget_line()
        if moves_up:  # what moved the cursor up will draw this line again
            self._note_state(line)
            return []
        lines = []
        if self._state is not None and self._state != self._logged and not is_redrawn:
            lines.append(self._state.text())
        if line.kept and not (is_redrawn and line == self._logged):
            lines.append(line.text())
        self._state = self._logged = self._next_state_at = None
        return lines

    def _extend(self, piece: bytes) -> None:
        """Add what does not contain the end of a line."""
        if b"\x1b[" in piece:
            self._moves_up = self._moves_up or _CURSOR_UP.search(piece) is not None
            piece = _FIRST_COLUMN.sub(b"\r", _CURSOR_UP.sub(b"", piece))
        if self._moves_up or b"\r" in piece:
            self._is_redrawn = True
        if b"\r" not in piece:
            self._current = self._current.followed_by(piece)
            return
        ended, _, rest = piece.rpartition(b"\r")
        first, *others = ended.rstrip(b"\r").split(b"\r")
        last = next((one for one in reversed(others) if not _is_blank(one[:MAX_LINE_BYTES])), None)
        state = self._current.followed_by(first) if last is None else _NOTHING.followed_by(last)
        if not state.is_blank:
            self._before = state
        self._current = _NOTHING.followed_by(rest)

    def _latest(self) -> Piece:
        return self._before if self._is_redrawn and self._current.is_blank else self._current

    def _note_state(self, state: Piece) -> None:
        if not state.is_blank:
            self._state = state

    def _forget_line(self) -> None:
        self._current = self._before = _NOTHING
        self._is_redrawn = self._moves_up = False


def _is_blank(data: bytes) -> bool:
    return not (_SEQUENCE.sub(b"", data) if b"\x1b" in data else data).strip()


def _without_half_a_character(data: bytes) -> bytes:
    """Cut a character of UTF-8 that is not complete at the end."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:  # noqa: PLR2004  # not a continuation byte (RFC 3629)
            length = 1 + (byte >= 0xC0) + (byte >= 0xE0) + (byte >= 0xF0)  # noqa: PLR2004  # as above
            return data if length <= back else data[:-back]
    return data
