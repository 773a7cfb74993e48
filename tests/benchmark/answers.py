"""Just enough of HTTP to know when an answer is whole, for load generators that have better things to do.

Lives here: reading the head of an answer, and knowing one that looks like the last.  The load generators call it.
"""

from __future__ import annotations

from typing import Final

_STATUS: Final = slice(9, 12)  # of "HTTP/1.1 200 OK"


def read_answer(data: bytes) -> tuple[int, int] | None:
    """Status and length in bytes, head included, of the answer at the beginning of `data`; None if it is incomplete.

    Raises ValueError for what is no answer with a Content-Length.
    """
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    _, found, rest = data[: head_end + 2].lower().partition(b"\r\ncontent-length:")
    if not found:
        raise ValueError("an answer without Content-Length")
    length = head_end + 4 + int(rest[: rest.index(b"\r\n")])
    return (int(data[_STATUS]), length) if length <= len(data) else None


class AnswerShape:
    """Knows an answer that looks like the last one, which nearly all of a load do, without reading its head again.

    A whole answer is as long as it says at one place of its head; one of the same length, with the same words there
    and its head ending where that one did, is whole too.
    """

    def __init__(self) -> None:
        self.status = 0
        self._length = -1
        self._head_end = -1
        self._begin = b""
        self._said = slice(0)  # where the head says how long the body is
        self._says = b""

    def matches(self, data: bytes) -> bool:
        """Whether it is a whole answer, with the status and of the length of the one learnt."""
        return (
            len(data) == self._length
            and data.startswith(self._begin)
            and data[self._said] == self._says
            and data.find(b"\r\n\r\n") == self._head_end
        )

    def learn(self, data: bytes) -> None:
        """`data` is a whole answer and nothing else."""
        begin = data.lower().index(b"\r\ncontent-length:")
        self._said = slice(begin, data.index(b"\r\n", begin + 2) + 2)
        self._says = data[self._said]
        self._begin = data[: _STATUS.stop]
        self.status = int(data[_STATUS])
        self._head_end = data.index(b"\r\n\r\n")
        self._length = len(data)
