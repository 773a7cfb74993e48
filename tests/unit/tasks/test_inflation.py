"""Compressed bodies are inflated in steps, up to a limit."""

from __future__ import annotations

import gzip
import sys
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.core.outcome import Reason
from offload.tasks.arguments.inflation import inflated, supported_codings
from offload.tasks.faults import Fault

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LIMIT = 1 << 24
NOISE = bytes(range(256)) * 1_000


def compressed(data: bytes, coding: str) -> bytes:
    return gzip.compress(data) if coding == "gzip" else zstd.compress(data)


def fault(body: bytes, coding: str = "gzip", limit_bytes: int = LIMIT) -> Fault:
    with pytest.raises(Fault) as caught:
        inflated(body, coding, limit_bytes)
    return caught.value


each_coding = pytest.mark.parametrize("coding", ["gzip", "zstd"])


@each_coding
@given(pieces=st.lists(st.binary(max_size=100) | st.integers(0, 100_000).map(bytes), min_size=1, max_size=4))
def test_a_body_of_several_members_is_inflated_whole(coding: str, pieces: list[bytes]) -> None:
    body = b"".join(compressed(piece, coding) for piece in pieces)
    assert bytes(inflated(memoryview(body), coding, LIMIT)) == b"".join(pieces)


@each_coding
@pytest.mark.parametrize("size", [0, 1, 16 * 1024, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_a_body_of_any_length_is_inflated_whole(coding: str, size: int) -> None:
    data = (NOISE * 13)[:size] if size <= len(NOISE) * 13 else bytes(size)
    assert bytes(inflated(compressed(data, coding), coding, LIMIT)) == data


@each_coding
def test_a_body_of_exactly_the_limit_is_accepted(coding: str) -> None:
    assert len(inflated(compressed(bytes(1_000), coding), coding, 1_000)) == 1_000
    assert fault(compressed(bytes(1_001), coding), coding, 1_000).reason is Reason.BODY_TOO_LARGE


def test_a_body_beyond_the_limit_is_reported_with_the_limit_and_the_remedy() -> None:
    found = fault(gzip.compress(bytes(2_000)), limit_bytes=1_000)
    assert found.fields == {
        "detail": "The body is larger than 1000 bytes after it is inflated. "
        "Split the work into smaller jobs, or have the service's --max-body raised.",
        "limit_bytes": 1_000,
    }


@each_coding
def test_a_bomb_costs_no_more_memory_than_the_limit(coding: str) -> None:
    body = compressed(bytes(200_000_000), coding)
    tracemalloc.start()
    try:
        assert fault(body, coding, 1 << 20).reason is Reason.BODY_TOO_LARGE
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 << 20


@each_coding
@given(cut=st.integers(0, 200))
def test_a_body_that_ends_early_is_rejected(coding: str, cut: int) -> None:
    body = compressed(NOISE[:1_000], coding)
    found = fault(body[: min(cut, len(body) - 1)], coding)
    assert (found.reason, "it ends early" in found.fields["detail"]) == (Reason.BAD_REQUEST, True)


@pytest.mark.parametrize(
    "body",
    [
        b'{"limit": 30}',
        zlib.compress(b"{}"),
        gzip.compress(b"{}") + b"x",
        gzip.compress(b"{}")[:-8] + bytes(8),
        zstd.compress(b"{}"),
    ],
    ids=["not compressed", "zlib", "further bytes", "wrong checksum", "another coding"],
)
def test_a_body_that_is_not_what_its_coding_says_is_rejected(body: bytes) -> None:
    found = fault(body)
    assert found.reason is Reason.BAD_REQUEST
    assert found.fields["detail"].startswith("The body is not valid gzip as its Content-Encoding says: ")
    assert found.fields["detail"].endswith(". Compress it again, or send it without Content-Encoding.")


def test_a_zstd_frame_that_asks_for_more_memory_than_the_limit_is_rejected() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    found = fault(compressor.compress(b"{}") + compressor.flush(), "zstd")
    assert (found.reason, "too much memory" in found.fields["detail"]) == (Reason.BAD_REQUEST, True)


def test_a_coding_that_is_not_supported_is_rejected() -> None:
    found = fault(b"", "br")
    assert found.reason is Reason.UNSUPPORTED_MEDIA_TYPE
    assert found.fields["supported"] == ["gzip", "zstd", "identity"] == [*supported_codings(), "identity"]


def test_zstd_that_cannot_be_imported_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    body = zstd.compress(b"{}")
    assert "zstd" in supported_codings()
    monkeypatch.setitem(sys.modules, zstd.__name__, None)
    found = fault(body, "zstd")
    assert (found.reason, found.fields["supported"]) == (Reason.UNSUPPORTED_MEDIA_TYPE, ["gzip", "identity"])
