"""HTTP as bytes on a socket, for requests that no HTTP client would send."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from multidict import CIMultiDict

BOUND_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response; the names of its headers are found in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def slug(self) -> str:
        """The slug of the problem that the body must be."""
        assert self.headers["Content-Type"] == "application/problem+json"
        document = self.json()
        assert document["status"] == self.status
        return str(document["type"]).removeprefix("/problems/")


class RawConnection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        """Send without waiting: the peer may not read."""
        self._writer.write(data)

    async def sent(self) -> None:
        """Wait until the peer has taken everything."""
        transport = self._writer.transport
        transport.set_write_buffer_limits(high=0)
        async with asyncio.timeout(BOUND_S):
            await self._writer.drain()

    def finish_sending(self) -> None:
        """Close the sending side; an answer may still arrive."""
        self._writer.write_eof()

    async def line(self) -> bytes:
        """Return one line; empty at the end of the connection."""
        async with asyncio.timeout(BOUND_S):
            return await self._reader.readline()

    async def answer(self) -> Answer:
        """The next response, its body by Content-Length."""
        version_and_status = await self.line()
        assert version_and_status.startswith(b"HTTP/1."), version_and_status
        headers: CIMultiDict[str] = CIMultiDict()
        while (line := await self.line()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers.add(name, value.strip())
        async with asyncio.timeout(BOUND_S):
            body = await self._reader.readexactly(int(headers.get("Content-Length", 0)))
        return Answer(status=int(version_and_status.split()[1]), headers=headers, body=body)

    async def is_closed_by_peer(self) -> bool:
        """Wait for the end of the connection; return False if bytes arrive instead."""
        try:
            async with asyncio.timeout(BOUND_S):
                return await self._reader.read(1) == b""
        except ConnectionError:
            return True

    def hang_up(self) -> None:
        self._writer.transport.abort()


@contextlib.asynccontextmanager
async def raw_connection(host: str, port: int) -> AsyncIterator[RawConnection]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):  # the peer closed it before reading all bytes
            await writer.wait_closed()
