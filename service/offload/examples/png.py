"""Write a greyscale picture as a PNG, using only zlib.

Source: PNG Specification (W3C, third edition), sections 5 and 11.2.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import Final

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_BITS_PER_SAMPLE: Final = 8
_GREYSCALE: Final = 0


def greyscale_png(width: int, height: int, rows: Iterable[bytes]) -> bytes:
    """Returns the bytes of a PNG file. Each row has `width` bytes, from 0 (black) to 255 (white)."""
    header = struct.pack(">IIBBBBB", width, height, _BITS_PER_SAMPLE, _GREYSCALE, 0, 0, 0)
    # Each row begins with its filter type; 0 means unfiltered.
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    """Returns a chunk: length (4 bytes), kind (4), data, checksum of kind and data (4), all big-endian."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
