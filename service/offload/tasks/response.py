"""`Response`, a result with a media type of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# RFC 9110, section 8.3.1: type/subtype, then parameters. Parameters are not parsed, but cannot end the header.
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_MEDIA_TYPE: Final = re.compile(rf"{_TOKEN}/{_TOKEN}(?:[ \t]*;[ -~]*)?", re.ASCII)
_MAX_LENGTH: Final = 255

_GENERAL_REMEDY: Final = "convert it, for example with str(value)"
# By a method that the content has, best first.
_REMEDIES: Final = {
    "getvalue": "pass its getvalue()",
    "savefig": "save it into buffer = io.BytesIO() and pass buffer.getvalue()",
    "save": "save it into buffer = io.BytesIO() and pass buffer.getvalue()",
    "read": "pass its read()",
    "tobytes": "pass its tobytes()",
}


@dataclass(frozen=True, slots=True)
class Response:
    """A result sent unchanged: `return Response(png, media_type="image/png")`.

    Text is sent as UTF-8. Without `media_type`, text is `text/plain` and bytes are `application/octet-stream`. Raises
    TypeError for other contents and ValueError for an invalid media type.
    """

    content: bytes | bytearray | memoryview | str
    media_type: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.content, (bytes, bytearray, memoryview, str)):
            raise TypeError(_wrong_content(self.content))
        if not self.media_type:
            default = "text/plain; charset=utf-8" if isinstance(self.content, str) else "application/octet-stream"
            object.__setattr__(self, "media_type", default)
        elif len(self.media_type) > _MAX_LENGTH or not _MEDIA_TYPE.fullmatch(self.media_type):
            raise ValueError(f"invalid media type {self.media_type[:_MAX_LENGTH]!r}; use one such as 'image/png'")


def _wrong_content(content: object) -> str:
    remedy = next((remedy for method, remedy in _REMEDIES.items() if hasattr(content, method)), _GENERAL_REMEDY)
    if isinstance(content, (dict, list, tuple)):
        remedy = "return it without a Response, which sends it as JSON"
    return f"the content of a Response must be bytes or str, not {type(content).__name__}; {remedy}"
