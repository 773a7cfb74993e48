"""The bytes between the service and a worker: the layout of a frame, packing, and checks. No socket is used here.

A frame is a header of 32 bytes, then `meta_bytes` of meta, then `body_bytes` of body; little-endian:

    offset  size  field
    0       1     kind           what the frame is (`FrameKind`)
    1       1     flag           JOB: attempt, 1 to 255. DONE: index into STATUSES, + PENDING_OUTPUT, + LEAVING
    2       2     tag            JOB: index of the task. From the worker: MAGIC
    4       4     meta_bytes     JOB: length of the job's id and the head (see `pack_meta`). DONE: length of the media
                                 type, or of the traceback if the task raised
    8       8     body_bytes
    16      8     number         of the job; 0 in frames that concern none
    24      8     run_ns         DONE: run time, nanoseconds

A body of more than `shared_bytes.LARGE_BYTES` is not in the stream. Then LARGE_JOB and LARGE_DONE replace JOB and DONE,
and the body of the frame is

    0       8     size_bytes     of the memory whose descriptor was sent just before (see `passing`)
    8       1     is_last        LARGE_JOB: the last attempt; once it has begun, no other process reads that memory
"""

from __future__ import annotations

import struct
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple

import orjson

from offload.core.job import JobId
from offload.core.outcome import Reason
from offload.core.request import JobHead
from offload.errors import FrameError

_HEADER: Final = struct.Struct("<BBHIQQQ")
_ID_BYTES: Final = 32
# Clients send the same head with each of their requests, unless they give each request an id.
_KNOWN_HEADS: Final = 64
HEADER_BYTES: Final = _HEADER.size
_LARGE: Final = struct.Struct("<Q?")

# Marks what a worker sends, so that a task that writes into the channel is detected at the first header.
MAGIC: Final = 0x0FF1
# The worker's output pipe held bytes when it answered. Read them before the answer: they belong to this job.
PENDING_OUTPUT: Final = 0x80
# The worker begins no other job and ends: this job has left something behind that cannot be undone.
LEAVING: Final = 0x40
STATUS_BITS: Final = 0x3F

MAX_META_BYTES: Final = 1 << 20
# The worker does not send longer results; a longer announcement is malformed.
MAX_BODY_BYTES: Final = 1 << 31


class FrameKind(IntEnum):
    """JOB, RETIRE (exit after the jobs before it) and SKIP (job `number` was withdrawn) go to the worker.

    The worker answers SKIP with SKIPPED once it has read it.
    """

    JOB = 1
    RETIRE = 2
    SKIP = 7
    READY = 3
    START_FAILED = 4
    DONE = 5
    CATALOGUE = 6
    SKIPPED = 8
    LARGE_JOB = 9
    LARGE_DONE = 10


# Looked up once: until Python 3.12 reading an enum member costs more than a call.
_DONE: Final = FrameKind.DONE
_JOB: Final = FrameKind.JOB

FROM_WORKER: Final = frozenset(
    {
        FrameKind.READY,
        FrameKind.START_FAILED,
        FrameKind.DONE,
        FrameKind.CATALOGUE,
        FrameKind.SKIPPED,
        FrameKind.LARGE_DONE,
    }
)

# How a worker can end a job. The order is the encoding.
STATUSES: Final = (
    Reason.SUCCEEDED,
    Reason.TASK_ERROR,
    Reason.INVALID_JSON,
    Reason.INVALID_ARGUMENTS,
    Reason.RESULT_NOT_SERIALISABLE,
    Reason.BAD_REQUEST,
    Reason.BODY_TOO_LARGE,
    Reason.UNSUPPORTED_MEDIA_TYPE,
)


class Header(NamedTuple):
    kind: int
    flag: int
    tag: int
    meta_bytes: int
    body_bytes: int
    number: int
    run_ns: int


class LargeSize(NamedTuple):
    """The body of a LARGE_JOB or LARGE_DONE frame."""

    size_bytes: int
    is_last: bool


def pack_meta(job_id: JobId, head: JobHead) -> bytes:
    """Returns the meta of a JOB frame: the job's id, 32 ASCII characters, then the head as a JSON array."""
    return job_id.encode("ascii") + _pack_head(head)


def unpack_meta(meta: bytes) -> tuple[str, JobHead]:
    """Returns what `pack_meta` was given."""
    return meta[:_ID_BYTES].decode("ascii"), _unpack_head(meta[_ID_BYTES:])


@lru_cache(maxsize=_KNOWN_HEADS)
def _pack_head(head: JobHead) -> bytes:
    return orjson.dumps(tuple(head))  # orjson takes plain tuples only


@lru_cache(maxsize=_KNOWN_HEADS)
def _unpack_head(head: bytes) -> JobHead:
    return JobHead._make(orjson.loads(head))


def pack_job(*, number: int, task_index: int, attempt: int, meta_bytes: int, body_bytes: int) -> bytes:
    """Returns the header of a JOB frame."""
    return _HEADER.pack(_JOB, min(attempt, 255), task_index, meta_bytes, body_bytes, number, 0)


def pack_large_job(*, number: int, task_index: int, attempt: int, meta_bytes: int) -> bytes:
    """Returns the header of a LARGE_JOB frame; `pack_large` makes its body."""
    return _HEADER.pack(FrameKind.LARGE_JOB, min(attempt, 255), task_index, meta_bytes, _LARGE.size, number, 0)


def pack_large(size_bytes: int, *, is_last: bool = False) -> bytes:
    return _LARGE.pack(size_bytes, is_last)


def unpack_large(body: bytes | bytearray | memoryview) -> LargeSize:
    """Raises FrameError for a body of another length."""
    if len(body) != _LARGE.size:
        raise FrameError(f"large frame with a body of {len(body)} bytes")
    return LargeSize._make(_LARGE.unpack(body))


def pack_retire() -> bytes:
    """Returns a whole RETIRE frame."""
    return _HEADER.pack(FrameKind.RETIRE, 0, 0, 0, 0, 0, 0)


def pack_skip(number: int) -> bytes:
    """Returns a whole SKIP frame."""
    return _HEADER.pack(FrameKind.SKIP, 0, 0, 0, 0, number, 0)


def pack_answer(
    kind: FrameKind, *, flag: int = 0, meta_bytes: int = 0, body_bytes: int = 0, number: int = 0, run_ns: int = 0
) -> bytes:
    """Returns the header of a frame from a worker."""
    return _HEADER.pack(kind, flag, MAGIC, meta_bytes, body_bytes, number, run_ns)


def unpack(data: bytes | bytearray | memoryview, offset: int = 0) -> Header:
    """Read a header without checking it; `data` must hold HEADER_BYTES from `offset` on."""
    return tuple.__new__(Header, _HEADER.unpack_from(data, offset))  # half the cost of `_make`


def check_from_worker(header: Header) -> None:
    """Raises FrameError for a header that a worker does not send."""
    kind, flag, tag, meta_bytes, body_bytes, _, _ = header
    if tag != MAGIC or kind not in FROM_WORKER:
        raise FrameError(f"unknown kind {kind} or tag {tag:#x}")
    if meta_bytes > MAX_META_BYTES or body_bytes > MAX_BODY_BYTES:
        raise FrameError(f"frame of {meta_bytes} + {body_bytes} bytes")
    if kind == _DONE:
        if flag & STATUS_BITS >= len(STATUSES):
            raise FrameError(f"unknown status {flag}")
    elif kind == FrameKind.LARGE_DONE and flag & STATUS_BITS:
        raise FrameError(f"large answer with status {flag}")
