"""What a task may return, and how it is encoded."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, field_serializer

from offload.core.outcome import Reason
from offload.tasks import results
from offload.tasks.faults import Fault
from offload.tasks.response import Response
from offload.tasks.results import encode


class Model(BaseModel):
    number: int = 1

    @field_serializer("number")
    def _spell(self, number: int) -> str:
        return f"number {number}"


@dataclass
class Point:
    x: int
    model: Model


class Colour(Enum):
    RED = "red"


class Pair(NamedTuple):
    a: int
    b: int


def counting() -> Iterator[int]:
    yield from range(3)


@pytest.mark.parametrize(
    ("value", "body"),
    [
        (None, b"null"),
        ({"a": [1, 2.5, "é"]}, '{"a":[1,2.5,"é"]}'.encode()),
        ({1: 2, None: 3}, b'{"1":2,"null":3}'),
        ({(1, 2): 3}, b'{"1,2":3}'),
        (2**64, b"18446744073709551616"),
        ({"a": 2**70, "b": {1}, "c": np.arange(2)}, b'{"a":1180591620717411303424,"b":[1],"c":[0,1]}'),
        ([math.nan, math.inf, {2**70}], b"[null,null,[1180591620717411303424]]"),
        ([math.nan, 2**70], b"[null,1180591620717411303424]"),
        ({1, 2}, b"[1,2]"),
        (Decimal("1.50"), b'"1.50"'),
        ([Model(number=2)], b'[{"number":"number 2"}]'),
        (Point(1, Model()), b'{"x":1,"model":{"number":"number 1"}}'),
        (Pair(1, 2), b"[1,2]"),
        (Colour.RED, b'"red"'),
        (datetime(2026, 1, 1, tzinfo=UTC), b'"2026-01-01T00:00:00+00:00"'),
        (timedelta(seconds=3), b'"PT3S"'),
        (UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (Path("/a"), b'"/a"'),
        ([b"text"], b'["text"]'),
        (np.float32(1.5), b"1.5"),
        (np.arange(6).reshape(2, 3).T, b"[[0,3],[1,4],[2,5]]"),
        (np.array(["a"]), b'["a"]'),
        (counting(), b"[0,1,2]"),
        ({"a": counting(), "b": 2**70}, b'{"a":[0,1,2],"b":1180591620717411303424}'),
    ],
)
def test_a_value_becomes_json(value: object, body: bytes) -> None:
    assert encode(value) == ("application/json", body)


@given(st.lists(st.integers()))
def test_integers_of_any_length_are_written_unchanged(numbers: list[int]) -> None:
    assert encode(numbers).body == str(numbers).replace(" ", "").encode()


@pytest.mark.parametrize(
    ("value", "body"),
    [
        (b"\xff", b"\xff"),
        (bytearray(b"x"), b"x"),
        (memoryview(b"abcd"), b"abcd"),
        (memoryview(b"abcd").cast("H"), b"abcd"),
        (memoryview(b"abcd")[::2], b"ac"),
        (memoryview(b""), b""),
    ],
)
def test_bytes_are_sent_as_they_are(value: Any, body: bytes) -> None:
    media_type, sent = encode(value)
    assert (media_type, sent, len(sent)) == ("application/octet-stream", body, len(body))


def test_a_response_names_its_media_type() -> None:
    assert encode(Response(b"x", media_type="image/png")) == ("image/png", b"x")
    assert encode(Response("é", "text/csv; charset=utf-8")) == ("text/csv; charset=utf-8", "é".encode())
    assert encode(Response("é")) == ("text/plain; charset=utf-8", "é".encode())
    assert encode(Response(memoryview(b"x"))) == ("application/octet-stream", b"x")


@pytest.mark.parametrize("media_type", ["text", "a/b\r\nX: 1", "a/b; c=\0", " a/b", f"a/{'b' * 300}", "a/é"])
def test_a_response_rejects_an_invalid_media_type(media_type: str) -> None:
    with pytest.raises(ValueError, match=r"^invalid media type .*; use one such as 'image/png'$"):
        Response(b"", media_type=media_type)


def test_a_response_rejects_other_contents_than_bytes_and_text() -> None:
    with pytest.raises(TypeError, match=r"^the content of a Response must be bytes or str, not int$"):
        Response(1)  # type: ignore[arg-type]  # a common mistake


@pytest.mark.parametrize(
    ("accept", "is_npy"),
    [
        ("application/x-npy", True),
        ("text/html, Application/X-NPY ; q=0.1", True),
        ("application/json;q=0.5, application/x-npy", True),
        ("application/json, application/x-npy;q=0.5", False),
        ("application/x-npy;q=0", False),
        ("application/x-npy;q=much", False),
        ("*/*", False),
        (",;,", False),
        ("", False),
    ],
)
def test_an_array_is_an_npy_file_only_if_accept_prefers_it(accept: str, is_npy: bool) -> None:
    assert (encode(np.arange(2), accept).media_type == "application/x-npy") == is_npy
    assert encode([0, 1], accept).media_type == "application/json"


class FailingModel(BaseModel):
    x: int = 1

    @field_serializer("x")
    def _end(self, x: int) -> int:
        raise SystemExit(x)


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError

    __str__ = __repr__


class LyingType(type):
    def __getattribute__(cls, name: str) -> Any:
        raise ValueError(name)


class Lying(metaclass=LyingType): ...


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def nested() -> list[Any]:
    value: list[Any] = []
    for _ in range(sys.getrecursionlimit() * 10):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "result_type"),
    [
        (object(), "builtins.object"),
        ({"a": [object()]}, "builtins.dict"),
        (range(3), "builtins.range"),
        (len, "builtins.builtin_function_or_method"),
        (Model, "pydantic._internal._model_construction.ModelMetaclass"),
        ("\ud800", "builtins.str"),
        ([b"\xff"], "builtins.list"),
        (cyclic(), "builtins.list"),
        (nested(), "builtins.list"),
        (FailingModel(), f"{__name__}.FailingModel"),
        (Unprintable(), f"{__name__}.Unprintable"),
        (Lying(), f"{__name__}.Lying"),
        (np.array([object()]), "numpy.ndarray"),
        (Response("\ud800"), "offload.tasks.response.Response"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isprintable() else "value",
)
def test_a_result_that_cannot_be_encoded_is_reported_with_its_type(value: object, result_type: str) -> None:
    for accept in ("", "application/x-npy"):
        with pytest.raises(Fault) as caught:
            encode(value, accept)
        assert caught.value.reason is Reason.RESULT_NOT_SERIALISABLE
        assert orjson.loads(caught.value.to_json())["result_type"] == result_type


def test_a_result_above_the_size_limit_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MAX_RESULT_BYTES", 3)
    assert encode(b"abc").body == b"abc"
    with pytest.raises(Fault) as caught:
        encode(b"abcd")
    assert caught.value.fields == {
        "detail": "The result of type builtins.bytes has 4 bytes; the limit is 3. Return less data.",
        "result_type": "builtins.bytes",
    }


@pytest.mark.parametrize(
    ("value", "what_happened"),
    [
        (
            {"a": [object()]},
            "The result of type builtins.dict cannot be encoded (TypeError: builtins.object has no JSON form)",
        ),
        (
            cyclic(),
            "The result of type builtins.list cannot be encoded "
            "(ValueError: Circular reference detected (id repeated))",
        ),
    ],
    ids=["object", "cycle"],
)
def test_a_result_that_cannot_be_encoded_is_reported_with_the_remedy(value: object, what_happened: str) -> None:
    with pytest.raises(Fault) as caught:
        encode(value)
    remedy = "Return JSON values, bytes, an array, or offload.Response(content, media_type=…)."
    assert str(caught.value) == f"{what_happened}. {remedy}"
