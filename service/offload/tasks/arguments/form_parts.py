"""Reads a body of type `multipart/form-data` (RFC 7578) into its parts.

The library `multipart` checks the envelope. It copies what it reads, in small steps; the content of a part is a view of
the body, found by the sizes that the library reports.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from offload.core.outcome import Reason
from offload.tasks.arguments.content_type import ContentType
from offload.tasks.arguments.json_text import Body
from offload.tasks.faults import Fault, shortened

if TYPE_CHECKING:
    from multipart import MultipartSegment

MAX_PARTS: Final = 1_000
MAX_HEADER_BYTES: Final = 4_096  # of one line
MAX_HEADERS: Final = 16  # in one part

_STEP_BYTES: Final = 64 * 1024
_SEARCH_BYTES: Final = 4 * 1024
_END_OF_HEADERS: Final = b"\r\n\r\n"
# The values of Content-Transfer-Encoding that leave the bytes as they are.
_UNCHANGED: Final = frozenset({"", "binary", "8bit", "7bit"})
_MAX_PROBLEM_LENGTH: Final = 300


class Part(NamedTuple):
    """One part of a form. `content` is a read-only view of the body.

    `charset` is what its `Content-Type` names, empty if it names none. A part with a file name is a file.
    """

    name: str
    content: memoryview
    charset: str
    is_file: bool


def read_form(body: Body, content_type: ContentType) -> list[Part]:
    """Returns the parts in their order.

    Raises Fault `bad-request` for a malformed form, or for one beyond a limit, and `unsupported-media-type` if the
    library is missing.
    """
    try:
        from multipart import MultipartError, ParserLimitReached  # late: most workers get no form
    except ImportError:
        raise _no_library() from None
    boundary = _boundary(content_type)
    try:
        return list(_parts(memoryview(body).toreadonly(), boundary))
    except ParserLimitReached:
        limits = f"{MAX_PARTS:,} parts, {MAX_HEADERS} headers in each and {MAX_HEADER_BYTES:,} bytes in a header"
        raise _malformed(f"it is beyond a limit ({limits})", "Send fewer and smaller ones, or JSON") from None
    except EOFError:
        end = f"--{shortened(boundary, _MAX_PROBLEM_LENGTH)}--"
        raise _malformed(f"it ends early, before its last line {end!r}") from None
    except MultipartError as error:
        problem = shortened(str(error.args[0]), _MAX_PROBLEM_LENGTH)
        raise _malformed((problem[:1].lower() + problem[1:]).replace("segment", "part")) from None


def _boundary(content_type: ContentType) -> str:
    if len(content_type.boundaries) != 1 or not content_type.boundaries[0]:
        raise _malformed("its Content-Type must name one boundary", "Leave the Content-Type to your HTTP client")
    return content_type.boundaries[0]


def _parts(body: memoryview, boundary: str) -> Iterator[Part]:
    """Yields the parts. Raises MultipartError, and EOFError if the form ends before its last boundary."""
    from multipart import MultipartError, MultipartSegment, PushMultipartParser

    parser = PushMultipartParser(
        boundary, max_header_size=MAX_HEADER_BYTES, max_header_count=MAX_HEADERS, max_segment_count=MAX_PARTS
    )
    opening = b"--" + boundary.encode()
    line_bytes = len(opening) + 4  # a line break, the boundary, and a line break or "--"
    headers_at = _find(body, opening, 0) + line_bytes - 2
    segment, content_at = None, 0
    for start in range(0, len(body), _STEP_BYTES):
        for event in parser.parse(bytes(body[start : start + _STEP_BYTES])):
            if isinstance(event, MultipartSegment):
                segment = event
                content_at = _find(body, _END_OF_HEADERS, headers_at - 2) + len(_END_OF_HEADERS)
            elif event is None and segment is not None:
                end = content_at + segment.size
                yield _part(segment, body[content_at:end])
                headers_at = end + line_bytes
    try:
        parser.close()
    except MultipartError:
        raise EOFError from None


def _find(data: memoryview, text: bytes, start: int) -> int:
    """Returns the position of `text` from `start` on, -1 if it is not there. Does not copy all of `data`."""
    for at in range(start, len(data), _SEARCH_BYTES):
        found = bytes(data[at : at + _SEARCH_BYTES + len(text) - 1]).find(text)
        if found >= 0:
            return at + found
    return -1


def _part(segment: MultipartSegment, content: memoryview) -> Part:
    name = shortened(segment.name or "", _MAX_PROBLEM_LENGTH)
    if (segment.content_type or "").startswith("multipart/"):
        raise _malformed(f"the part {name!r} is a form itself", "Send each file as a part of its own, with one name")
    for header in ("Content-Transfer-Encoding", "Content-Encoding"):
        value = segment.header(header, "")
        if value.strip().lower() not in _UNCHANGED:
            value = shortened(value, _MAX_PROBLEM_LENGTH)
            raise _malformed(f"the part {name!r} has the {header} {value!r}", "Send its content as it is")
    return Part(segment.name or "", content, segment.charset or "", segment.filename is not None)


def _no_library() -> Fault:
    return Fault(
        Reason.UNSUPPORTED_MEDIA_TYPE,
        detail="This worker cannot read forms: the module `multipart` is missing or is another one (old versions of "
        "python-multipart replace it). Send JSON, or have the installation repaired.",
        supported=["application/json"],
    )


def _malformed(problem: str, remedy: str = "Send it as multipart/form-data (RFC 7578), as `curl -F` does") -> Fault:
    return Fault(Reason.BAD_REQUEST, detail=f"The form cannot be read: {problem}. {remedy}.")
