"""What a caller is told about its job, before it is anybody's response.

Lives here: the answer as values.  `outcomes` and `problems` make them; `jobs` gives them to aiohttp as responses, and
`direct` sends them by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized

from aiohttp import hdrs, web

from offload.web.server.large import LargeResponse
from offload.web.answers.timing import Timing
from offload.wire.shared_bytes import SharedBytes


# Not frozen: one is made for every job, and freezing doubles what that costs.
class Reply:
    """`lines` are the headers beside the content's type and length, as they are sent (see `header_lines`).  `timing` is
    the job's, where it has been asked for."""

    __slots__ = ("body", "content_type", "lines", "status", "timing")

    def __init__(
        self, status: int, content_type: str, body: Sized, lines: str = "", timing: Timing | None = None
    ) -> None:
        self.status = status
        self.content_type = content_type
        self.body = body
        self.lines = lines
        self.timing = timing

    def response(self) -> web.Response:
        headers: dict[str, str] = {hdrs.CONTENT_TYPE: self.content_type}
        for line in self.lines.split("\r\n")[:-1]:
            name, _, value = line.partition(": ")
            headers[name] = value
        if isinstance(self.body, SharedBytes):
            return LargeResponse(self.body, headers)
        body = bytes(self.body) if isinstance(self.body, memoryview) else self.body
        return web.Response(status=self.status, body=body, headers=headers)


def header_lines(headers: Mapping[str, str]) -> str:
    """Headers as they are sent.  None of the values has a line break in it."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
