"""Parses request headers, one function for each.

An invalid `Request-Timeout` is a problem. Invalid values of standard headers are ignored, as their RFCs require.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from multidict import CIMultiDictProxy, istr

from offload.core.request import DEFAULT_URGENCY
from offload.web.answers.request_problems import invalid_request_timeout

_MAX_CLIENT_CHARS: Final = 128  # longer than any address; longer names are cut to bound their cost
_MAX_TIMEOUT_S: Final = 999_999_999
_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")

_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")

# W3C Trace Context, section 3.2: version 00 ends after the flags; later versions may continue after a dash.
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:(?<!^00.{53})-[\x21-\x7e]{0,200})?"
)

# A dictionary of structured fields (RFC 8941, section 3.2), as much of it as finding `u` needs.
_ITEM: Final = r'(?:"(?:[^"\\]|\\.)*"|:[A-Za-z0-9+/=]*:|[^",;=()\s]+|\([^()]*\))'
_MEMBER: Final = rf"([a-z*][a-z0-9_.*-]*)(?:=({_ITEM}))?((?:;[ ]*[a-z*][a-z0-9_.*-]*(?:={_ITEM})?)*)"
_ONE_MEMBER: Final = re.compile(_MEMBER)
_SEPARATOR: Final = re.compile(r"[ \t]*,[ \t]*")
_URGENCY: Final = re.compile(r"[0-7]")


def request_timeout_s(values: Sequence[str]) -> float:
    """Returns the caller's budget in seconds, from the values of all `Request-Timeout` headers. Raises Problem."""
    text = values[0].strip(" \t")
    if len(values) == 1 and _SECONDS.fullmatch(text) and float(text) > 0:
        return float(text)
    raise invalid_request_timeout(values, _MAX_TIMEOUT_S)


def urgency(text: str, default: int = DEFAULT_URGENCY) -> int:
    """Returns the urgency (RFC 9218, 0 to 7) of a `Priority` header, or the default if the header is invalid."""
    found = default
    position = 0
    text = text.strip(" \t")
    while member := _ONE_MEMBER.match(text, position):
        name, value, _parameters = member.groups()
        if name == "u":  # the last member wins (RFC 8941, section 4.2.2)
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
    """Returns a request id of 1 to 128 visible ASCII characters, safe in headers and logs; else the empty string."""
    return text if text and _REQUEST_ID.fullmatch(text) else ""


def traceparent(text: str | None) -> str:
    """Returns a valid `traceparent` (W3C Trace Context); else the empty string."""
    return text if text and _TRACEPARENT.fullmatch(text) else ""


def encodable(text: str) -> str:
    """Returns text that UTF-8 can encode: aiohttp decodes bytes that are not UTF-8 to lone surrogates."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def media_type(content_type: str) -> str:
    """Returns the media type in lower case, without parameters."""
    return content_type.partition(";")[0].strip().lower()


def content_codings(text: str) -> list[str]:
    """Returns the codings of a `Content-Encoding` header in lower case, in their order, without `identity`.

    `x-gzip` is `gzip` (RFC 9110, section 8.4.1.3).
    """
    codings = [coding.strip(" \t").lower() for coding in text.split(",")]
    return ["gzip" if coding == "x-gzip" else coding for coding in codings if coding not in ("", "identity")]


def client_name(headers: CIMultiDictProxy[str], trusted: istr | None, address: str | None) -> str:
    """Returns the caller's name: the last entry of the `trusted` header, else the address, else the empty string.

    The last entry, because a proxy appends to the header that it receives (`X-Forwarded-For`).
    """
    named = joined_values(headers, trusted).rpartition(",")[2].strip() if trusted is not None else ""
    return named[:_MAX_CLIENT_CHARS] or address or ""


def joined_values(headers: CIMultiDictProxy[str], name: istr) -> str:
    """Returns all lines of a list header joined (RFC 9110, section 5.3); empty if there are none."""
    return ", ".join(headers.getall(name)) if name in headers else ""
