"""A reported end of a request is right, whatever the pieces in which requests arrive and whatever they contain."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser

from offload.web.server.request_ends import RequestEnds


def request(body: bytes, *lines: str) -> bytes:
    head = ["POST /jobs/primes HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


WHOLE = [
    request(b"{}"),
    request(b""),
    request(b"a body\r\n\r\nwith what ends a head"),
    request(request(b"{}")),
    b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\r\n" + request(b"{}"),
]
# The end of these is unknown.
ODD = [
    b"POST /jobs/primes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"\r\n\r\n" + request(b"{}"),
]


class Parsed:
    """aiohttp's parser, and the count of what it was fed."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._parser = HttpRequestParser(BaseProtocol(loop), loop, 1 << 16, max_msg_queue_size=1000)
        self.ends = RequestEnds()

    def feed(self, data: bytes) -> int | None:
        messages, _, _ = self._parser.feed_data(data)
        begun: list[tuple[object, StreamReader]] = list(messages)
        self.ends.count(data, begun)
        return self.ends.missing_bytes


@pytest.mark.parametrize("sent", WHOLE)
async def test_the_missing_bytes_are_known_after_each_piece_of_a_request(sent: bytes) -> None:
    end_of_head = sent.index(b"\r\n\r\n") + 4
    for at in range(end_of_head, len(sent)):
        parsed = Parsed()
        assert parsed.feed(sent[:at]) == len(sent) - at
        assert parsed.feed(sent[at:]) == 0
    for at in range(1, end_of_head):
        parsed = Parsed()
        assert parsed.feed(sent[:at]) is None


@pytest.mark.parametrize("odd", ODD)
async def test_an_unknown_end_stays_unknown(odd: bytes) -> None:
    parsed = Parsed()
    for sent in (odd, *WHOLE):
        assert parsed.feed(sent) is None


@pytest.mark.parametrize("cut", range(1, 4))
async def test_an_end_of_head_inside_a_body_is_not_one(cut: int) -> None:
    """The head is cut within its end, and part of another request follows the body."""
    more = b"GET /stats HTTP/1.1\r\nX-Any: "
    body = b"x" * (len(more) - 4) + b"\r\n\r\n" + b"y" * 10
    sent = request(body)
    at = sent.index(b"\r\n\r\n") + cut
    parsed = Parsed()
    assert parsed.feed(sent[:at]) is None
    assert parsed.feed(sent[at:] + more) is None
    assert parsed.feed(WHOLE[0]) is None


async def test_the_end_of_a_chunked_body_is_unknown() -> None:
    assert Parsed().feed(ODD[0][: ODD[0].index(b"\r\n\r\n") + 4]) is None


async def test_after_two_requests_in_one_piece_the_end_is_unknown() -> None:
    parsed = Parsed()
    assert parsed.feed(WHOLE[0] + WHOLE[1]) is None
    assert parsed.feed(WHOLE[0]) is None


async def test_an_empty_piece_changes_nothing() -> None:
    parsed = Parsed()
    assert parsed.feed(b"") == 0
    assert parsed.feed(WHOLE[0]) == 0
    assert parsed.feed(b"") == 0


async def test_a_body_with_the_beginning_of_the_next_request_leaves_the_end_unknown() -> None:
    parsed = Parsed()
    assert parsed.feed(WHOLE[0][:-1]) == 1
    assert parsed.feed(WHOLE[0][-1:] + b"POST /jo") is None


@pytest.mark.parametrize("seed", range(200))
async def test_a_reported_end_is_always_right(seed: int) -> None:
    chance = random.Random(seed)
    parsed = Parsed()
    requests = chance.choices(WHOLE + ODD, k=20)
    ends, stream = [0], b""
    for each in requests:
        stream += each
        ends.append(len(stream))
    for at, piece in cut(stream, ends, chance):
        missing_bytes = parsed.feed(piece)
        if missing_bytes is not None:
            assert at + missing_bytes == min(end for end in ends if end >= at)


def cut(stream: bytes, ends: list[int], chance: random.Random) -> Iterator[tuple[int, bytes]]:
    """Yield the stream in pieces with the position of their ends, usually the ends of requests."""
    begin = 0
    while begin < len(stream):
        anywhere = min(begin + chance.randrange(1, 120), len(stream))
        end = chance.choice([*[end for end in ends if end > begin][:2], anywhere])
        yield end, stream[begin:end]
        begin = end
