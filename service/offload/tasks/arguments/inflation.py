"""Inflates compressed bodies (`Content-Encoding`) up to a limit.

A body of a few KB may inflate to gigabytes. So it is inflated in steps, which stop at the limit.

zstd is in the standard library from Python 3.14 on. Before, the package `backports.zstd` provides the same module.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from offload.core.outcome import Reason
from offload.tasks.arguments.json_text import Body
from offload.tasks.faults import Fault

GZIP: Final = "gzip"
ZSTD: Final = "zstd"

# Small: where one member of a gzip file ends, zlib copies what follows it in its step.
_STEP_BYTES: Final = 16 * 1024
_MAX_OUTPUT_BYTES: Final = 1 << 20
_GZIP_WINDOW_BITS: Final = 31  # 15, + 16 for the header and checksum of gzip

# A zstd frame says how much memory inflating it takes: 8 MiB at most (RFC 9659), or the size of its content.
_ZSTD_WINDOW_LOG: Final = 23
_MAX_ZSTD_WINDOW_LOG: Final = 30


def supported_codings() -> tuple[str, ...]:
    """Returns the content codings that `inflated` can read, without importing what reads them."""
    return (GZIP, ZSTD) if _zstd_module() else (GZIP,)


def inflated(body: Body, coding: str, limit_bytes: int) -> memoryview:
    """Returns the inflated body, read-only.

    Raises Fault `body-too-large` for more than `limit_bytes`, `bad-request` for bytes that are malformed or end early,
    and `unsupported-media-type` for a coding that is not supported.
    """
    if coding not in supported_codings():
        raise _unsupported(coding)
    data = memoryview(body)
    if coding == GZIP:
        pieces = _gunzipped(data)
    else:
        try:
            pieces = _unzstd(data, import_module(_zstd_module()), limit_bytes)
        except ImportError:
            raise _unsupported(coding) from None
    whole = bytearray()
    try:
        for piece in pieces:
            whole += piece
            if len(whole) > limit_bytes:
                raise _too_large(limit_bytes)
    except EOFError:
        raise _malformed(coding, "it ends early") from None
    except Fault:
        raise
    except Exception as error:  # zlib.error or ZstdError, whose module may not be installed
        raise _malformed(coding, str(error)) from None
    return memoryview(whole).toreadonly()


def _gunzipped(data: memoryview) -> Iterator[bytes]:
    """Yields the content of all members of a gzip file. Raises zlib.error, and EOFError if it ends early."""
    position = 0
    while True:
        member = zlib.decompressobj(_GZIP_WINDOW_BITS)
        while not member.eof:
            step = data[position : position + _STEP_BYTES]
            piece = member.decompress(step, _MAX_OUTPUT_BYTES)
            read_bytes = len(step) - len(member.unconsumed_tail) - len(member.unused_data)
            if not (piece or read_bytes or member.eof):
                raise EOFError
            position += read_bytes
            yield piece
        if position == len(data):
            return


def _unzstd(data: memoryview, zstd: Any, limit_bytes: int) -> Iterator[bytes]:
    """Yields the content of all frames. Raises ZstdError, and EOFError if the last frame ends early."""
    window_log = min(max(_ZSTD_WINDOW_LOG, limit_bytes.bit_length()), _MAX_ZSTD_WINDOW_LOG)
    options = {zstd.DecompressionParameter.window_log_max: window_log}
    position = 0
    while True:
        frame = zstd.ZstdDecompressor(options=options)
        while not frame.eof:
            step = data[position : position + _STEP_BYTES] if frame.needs_input else b""
            if frame.needs_input and not step:
                raise EOFError
            piece = frame.decompress(step, _MAX_OUTPUT_BYTES)
            position += len(step) - len(frame.unused_data)
            yield piece
        if position == len(data):
            return


@lru_cache(maxsize=1)
def _zstd_module() -> str:
    """Returns the name of the module that reads zstd, or "" without one."""
    if find_spec("_zstd") is not None:  # the part of `compression.zstd` in C, which a build of Python may lack
        return "compression.zstd"
    try:
        return "backports.zstd" if find_spec("backports.zstd") is not None else ""
    except ModuleNotFoundError:  # no package `backports`
        return ""


def _too_large(limit_bytes: int) -> Fault:
    return Fault(
        Reason.BODY_TOO_LARGE,
        detail=f"The body is larger than {limit_bytes} bytes after it is inflated. "
        "Split the work into smaller jobs, or have the service's --max-body raised.",
        limit_bytes=limit_bytes,
    )


def _malformed(coding: str, problem: str) -> Fault:
    return Fault(
        Reason.BAD_REQUEST,
        detail=f"The body is not valid {coding} as its Content-Encoding says: {problem}. "
        "Compress it again, or send it without Content-Encoding.",
    )


def _unsupported(coding: str) -> Fault:
    return Fault(
        Reason.UNSUPPORTED_MEDIA_TYPE,
        detail=f"Content-Encoding {coding!r} is not supported by this worker. Send the body unencoded.",
        supported=[*(one for one in supported_codings() if one != coding), "identity"],
    )
