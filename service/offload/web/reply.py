"""What a caller is told about its job, before it is anybody's response.

Lives here: the answer as values.  `outcomes` and `problems` make them; `jobs` gives them to aiohttp as responses, and
`direct` sends them by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import Final

from aiohttp import hdrs, web

from offload.web.large import LargeResponse
from offload.worker.shared_bytes import SharedBytes

_NOTHING: Final[Mapping[str, str]] = {}


# Not frozen: one is made for every job, and freezing doubles what that costs.
class Reply:
    """`headers` are those beside the content's type and length.  None of the values has a line break in it."""

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(
        self,
        status: int,
        content_type: str,
        body: Sized,
        headers: Mapping[str, str] = _NOTHING,
    ) -> None:
        self.status = status
        self.content_type = content_type
        self.body = body
        self.headers = headers

    def response(self) -> web.Response:
        headers = {hdrs.CONTENT_TYPE: self.content_type, **self.headers}
        if isinstance(self.body, SharedBytes):
            return LargeResponse(self.body, headers)
        body = bytes(self.body) if isinstance(self.body, memoryview) else self.body
        return web.Response(status=self.status, body=body, headers=headers)
