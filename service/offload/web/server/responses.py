"""Makes responses of aiohttp from replies."""

from __future__ import annotations

from aiohttp import hdrs, web
from multidict import CIMultiDict

from offload.engines.release import release_body
from offload.web.answers.reply import Reply
from offload.web.server.sending import send_content
from offload.wire.shared_bytes import SharedBytes


def response_of(reply: Reply) -> web.Response:
    """Returns the reply as a response of aiohttp."""
    headers = CIMultiDict(reply.headers)
    body = reply.body
    if isinstance(body, SharedBytes):
        return LargeResponse(reply.status, headers, body)
    return web.Response(
        status=reply.status, headers=headers, body=bytes(body) if isinstance(body, memoryview) else body
    )


class LargeResponse(web.Response):
    """Sends shared memory without joining or copying it. Owns the memory; `release` must be called."""

    def __init__(self, status: int, headers: CIMultiDict[str], content: SharedBytes) -> None:
        headers[hdrs.CONTENT_LENGTH] = str(len(content))
        super().__init__(status=status, headers=headers)
        self._content = content

    async def write_eof(self, data: bytes = b"") -> None:
        if self._eof_sent:
            return
        transport = None if self._req is None else self._req.transport
        if transport is None:
            raise ConnectionResetError
        await send_content(self._content, transport, self.write)
        await super().write_eof()

    def release(self) -> None:
        """Release the memory. May be called twice."""
        release_body(self._content)
