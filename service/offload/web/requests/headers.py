"""What the request's head says about a job, read and judged.

Lives here: one function for each header that we understand, from text to value.  What our own headers get wrong is a
problem; what the standard ones get wrong is ignored, as their RFCs say.  `jobs` and `exchange` call it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from multidict import CIMultiDictProxy, istr

from offload.core.job import DEFAULT_URGENCY
from offload.web.answers.request_problems import invalid_request_timeout

_MAX_CLIENT_CHARS: Final = 128  # an address is shorter; longer names are cut, so that nobody's costs much
_MAX_TIMEOUT_S: Final = 999_999_999
_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")

_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")

# W3C Trace Context, section 3.2: version 00 ends after the flags, later ones may go on after another dash.
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:(?<!^00.{53})-[\x21-\x7e]{0,200})?"
)

# A dictionary of structured fields (RFC 8941, section 3.2), as far as needed to find `u` in a well-formed one.
_ITEM: Final = r'(?:"(?:[^"\\]|\\.)*"|:[A-Za-z0-9+/=]*:|[^",;=()\s]+|\([^()]*\))'
_MEMBER: Final = rf"([a-z*][a-z0-9_.*-]*)(?:=({_ITEM}))?((?:;[ ]*[a-z*][a-z0-9_.*-]*(?:={_ITEM})?)*)"
_ONE_MEMBER: Final = re.compile(_MEMBER)
_SEPARATOR: Final = re.compile(r"[ \t]*,[ \t]*")
_URGENCY: Final = re.compile(r"[0-7]")


def request_timeout_s(values: Sequence[str]) -> float:
    """The caller's budget, seconds, from the values of all `Request-Timeout` headers.  Raises Problem."""
    text = values[0].strip(" \t")
    if len(values) == 1 and _SECONDS.fullmatch(text) and float(text) > 0:
        return float(text)
    raise invalid_request_timeout(values, _MAX_TIMEOUT_S)


def urgency(text: str, default: int = DEFAULT_URGENCY) -> int:
    """The urgency of RFC 9218, 0 to 7, from a `Priority` header; the default where the header cannot be read."""
    found = default
    position = 0
    text = text.strip(" \t")
    while member := _ONE_MEMBER.match(text, position):
        name, value, _parameters = member.groups()
        if name == "u":  # the last one counts (RFC 8941, section 4.2.2)
            found = int(value) if value and _URGENCY.fullmatch(value) else default
        position = member.end()
        if position == len(text):
            return found
        separator = _SEPARATOR.match(text, position)
        if separator is None:
            break
        position = separator.end()
    return default


def request_id(text: str | None) -> str:
    """A request id that can stand in a header and a log line: up to 128 visible ASCII characters; else empty."""
    return text if text and _REQUEST_ID.fullmatch(text) else ""


def traceparent(text: str | None) -> str:
    """A trace parent as W3C Trace Context has it, else empty."""
    return text if text and _TRACEPARENT.fullmatch(text) else ""


def transportable(text: str) -> str:
    """A piece of the head that UTF-8 can carry: aiohttp leaves bytes that are no UTF-8 as lone surrogates."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def media_type(content_type: str) -> str:
    """The media type alone, lower case, without parameters."""
    return content_type.partition(";")[0].strip().lower()


def client(headers: CIMultiDictProxy[str], trusted: istr | None, address: str | None) -> str:
    """What stands for the caller: the last entry of the header that a proxy is trusted to set, else the address.

    The last one, because a proxy appends to what it was sent (`X-Forwarded-For`).  Empty where nothing is known.
    """
    named = all_of(headers, trusted).rpartition(",")[2].strip() if trusted is not None else ""
    return named[:_MAX_CLIENT_CHARS] or address or ""


def all_of(headers: CIMultiDictProxy[str], name: istr) -> str:
    """All lines of one list header as one (RFC 9110, section 5.3); empty without any."""
    return ", ".join(headers.getall(name)) if name in headers else ""
