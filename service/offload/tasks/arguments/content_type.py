"""Reads the `Content-Type` of a request, as far as it says how to read the body."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

FORM: Final = "multipart/form-data"
URL_ENCODED: Final = "application/x-www-form-urlencoded"

# Clients send the same header with each of their requests.
_KNOWN: Final = 64
_PARAMETER: Final = re.compile(r';[ \t]*([\w!#$%&*+.^`|~-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))')
_ESCAPE: Final = re.compile(r"\\(.)")
# Names of charsets whose text JSON can be: it is UTF-8 (RFC 8259, section 8.1).
_UTF_8: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})


class ContentType(NamedTuple):
    """`media_type` is in lower case. `other_charset` is the charset that the header names if it is not UTF-8.

    `boundaries` are the values of all `boundary` parameters; a form has exactly one.
    """

    media_type: str = ""
    other_charset: str = ""
    boundaries: tuple[str, ...] = ()


UNKNOWN: Final = ContentType()


@lru_cache(maxsize=_KNOWN)
def read_content_type(header: str) -> ContentType:
    """Never raises; what cannot be read is left out."""
    media_type, _, parameters = header.partition(";")
    values: dict[str, list[str]] = {"charset": [], "boundary": []}
    for name, quoted, token in _PARAMETER.findall(f";{parameters}"):
        values.setdefault(name.lower(), []).append(_ESCAPE.sub(r"\1", quoted) or token)
    charset = next((one for one in values["charset"] if one.lower() not in _UTF_8), "")
    return ContentType(media_type.strip().lower(), charset, tuple(values["boundary"]))
