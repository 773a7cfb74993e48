"""What a task may return, and how it is encoded."""

from __future__ import annotations

import csv
import io
import math
import re
from array import array
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString, defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntFlag
from functools import cached_property
from ipaddress import ip_address
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from uuid import UUID

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, field_serializer
from pydantic.dataclasses import dataclass as validated_dataclass

from offload.tasks.response import Response
from offload.tasks.results.encoding import encode
from tests.unit.tasks.calling import result

ODD_ZONE: Final = timezone(timedelta(minutes=19, seconds=32))
ATOMS: Final = st.none() | st.booleans() | st.integers() | st.floats(allow_infinity=False) | st.text() | st.dates()
VALUES: Final = st.recursive(ATOMS, lambda part: st.lists(part) | st.dictionaries(st.text(), part), max_leaves=10)


class NoZone(tzinfo):
    def utcoffset(self, moment: datetime | None) -> None:
        return None

    dst = tzname = utcoffset


class Model(BaseModel):
    number: int = 1

    @field_serializer("number")
    def _spell(self, number: int) -> str:
        return f"number {number}"


class Aliased(BaseModel):
    a_b: int = Field(default=1, serialization_alias="aB")
    any: Any = None


class Base(BaseModel):
    a: int = 1


class Derived(Base):
    b: int = 2


class Reading(BaseModel):
    numbers: Iterable[int]


class Lenient(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="null")
    x: float
    y: Any = None
    z: complex = 1j

    @field_serializer("y")
    def _omit(self, y: Any) -> None:
        return None


class Careful(BaseModel):
    x: float

    @field_serializer("x")
    def _finite(self, x: float) -> float | None:
        return None if math.isinf(x) else x


@validated_dataclass
class Validated:
    x: int = Field(serialization_alias="X")


@dataclass
class Point:
    x: int
    model: Model
    _hidden: int = 3

    @cached_property
    def total(self) -> int:
        return self.x + self.model.number


@dataclass(slots=True)
class Slotted:
    _a: int


class Colour(Enum):
    RED = "red"


class Flags(IntFlag):
    A = 1
    B = 2


class Pair(NamedTuple):
    a: int
    b: int


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Part(float):
    pass


class Shorter(bytes):
    def __len__(self) -> int:
        return 1


def counting() -> Iterator[int]:
    yield from range(3)


@pytest.mark.parametrize(
    ("value", "body"),
    [
        (None, b"null"),
        ({"a": [1, 2.5, "é"]}, '{"a":[1,2.5,"é"]}'.encode()),
        ([-0.0, math.nan, None], b"[-0.0,null,null]"),
        ([None, "Infinity"], b'[null,"Infinity"]'),
        (2**64, b"18446744073709551616"),
        ({"a": 2**70, "b": {1}, "c": np.arange(2)}, b'{"a":1180591620717411303424,"b":[1],"c":[0,1]}'),
        ([math.nan, 2**70], b"[null,1180591620717411303424]"),
        (Text("a"), b'"a"'),
        (Whole(2**70), b"1180591620717411303424"),
        (Part(1.5), b"1.5"),
        (Colour.RED, b'"red"'),
        ([Flags.A | Flags.B], b"[3]"),
    ],
)
def test_a_simple_value_becomes_json(value: object, body: bytes) -> None:
    assert encode(value) == ("application/json", body)


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ({1: 2, None: 3, False: 4, 1.5: 5}, b'{"1":2,"null":3,"false":4,"1.5":5}'),
        ({2**70: 1}, b'{"1180591620717411303424":1}'),
        ({Text("a"): {3: 2**70}}, b'{"a":{"3":1180591620717411303424}}'),
        ({Colour.RED: 1, date(2026, 1, 1): 2}, b'{"red":1,"2026-01-01":2}'),
        ({UUID(int=1): 1}, b'{"00000000-0000-0000-0000-000000000001":1}'),
        ({np.int64(1): 1, np.str_("a"): 2, np.bool_(False): 3}, b'{"1":1,"a":2,"false":3}'),
        ({np.datetime64("2026-01-02"): 1, np.datetime64("NaT"): 2}, b'{"2026-01-02":1,"null":2}'),
        ({pd.Timestamp("2026-01-01"): 1}, b'{"2026-01-01T00:00:00":1}'),
    ],
)
def test_keys_become_text(value: object, body: bytes) -> None:
    assert encode(value).body == body
    assert encode([value]).body == b"[%b]" % body


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ({1}, b"[1]"),
        (frozenset([1]), b"[1]"),
        (deque([1, {2}]), b"[1,[2]]"),
        (Pair(1, 2), b"[1,2]"),
        (array("d", [1, math.nan]), b"[1.0,null]"),
        (UserList([1]), b"[1]"),
        (OrderedDict(a=1), b'{"a":1}'),
        (defaultdict(list, {"a": [1]}), b'{"a":[1]}'),
        (Counter("aa"), b'{"a":2}'),
        (UserDict({"a": {1}}), b'{"a":[1]}'),
        (MappingProxyType({1: 2}), b'{"1":2}'),
        (ChainMap({"a": 1}), b'{"a":1}'),
        (UserString("a"), b'"a"'),
        ({"a": 1}.keys(), b'["a"]'),
        ({"a": 1}.values(), b"[1]"),
        ({"a": 1}.items(), b'[["a",1]]'),
        (range(3), b"[0,1,2]"),
        ({"a": range(2_500)}, b'{"a":[%b]}' % ",".join(map(str, range(2_500))).encode()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_collection_becomes_a_list_or_an_object(value: object, body: bytes) -> None:
    assert encode(value).body == body


@pytest.mark.parametrize(
    ("items", "body"),
    [
        (counting(), b"[0,1,2]"),
        (map(str, [1]), b'["1"]'),
        (zip([1], [{2}], strict=True), b"[[1,[2]]]"),
        (enumerate("a"), b'[[0,"a"]]'),
        (reversed([1, 2]), b"[2,1]"),
        (chain([1], [2**70]), b"[1,1180591620717411303424]"),
        (iter([]), b"[]"),
        (csv.reader(["a,b"]), b'[["a","b"]]'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_iterator_is_read_once(items: object, body: bytes) -> None:
    assert encode({"a": items, "b": 2**70, 3: [None]}).body == b'{"a":%b,"b":%d,"3":[null]}' % (body, 2**70)


@pytest.mark.parametrize(
    ("value", "body"),
    [
        (Decimal("1.50"), b'"1.50"'),
        ([Decimal("nan"), Decimal("snan")], b"[null,null]"),
        (UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (Path("/a"), b'"/a"'),
        (ip_address("::1"), b'"::1"'),
        (re.compile("a+"), b'"a+"'),
        (date(1, 1, 1), b'"0001-01-01"'),
        (time(1, 2, tzinfo=UTC), b'"01:02:00+00:00"'),
        (datetime(2026, 1, 1), b'"2026-01-01T00:00:00"'),
        (datetime(2026, 1, 1, 0, 0, 0, 5, tzinfo=UTC), b'"2026-01-01T00:00:00.000005+00:00"'),
        (datetime(1880, 1, 1, tzinfo=ODD_ZONE), b'"1880-01-01T00:00:00+00:19:32"'),
        (datetime(2026, 1, 1, tzinfo=NoZone()), b'"2026-01-01T00:00:00"'),
        (timedelta(seconds=3), b'"PT3S"'),
        (timedelta(0), b'"PT0S"'),
        (timedelta(days=400, milliseconds=1500), b'"P400DT1.5S"'),
        (timedelta(hours=-25), b'"-P1DT1H"'),
        (timedelta.min, b'"-P999999999D"'),
    ],
)
def test_a_value_that_json_lacks_becomes_text(value: object, body: bytes) -> None:
    assert encode(value).body == body


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ([Model(number=2)], b'[{"number":"number 2"}]'),
        ({"a": Aliased()}, b'{"a":{"aB":1,"any":null}}'),
        (Aliased(any=np.array(["NaT"], "M8[s]")), b'{"aB":1,"any":[null]}'),
        (Aliased(any=range(2)), b'{"aB":1,"any":[0,1]}'),
        (Aliased(any=iter([2**70, math.nan])), b'{"aB":1,"any":[1180591620717411303424,null]}'),
        ([Aliased(any=[iter([1])]), 2**70], b'[{"aB":1,"any":[[1]]},1180591620717411303424]'),
        ([Reading.model_validate({"numbers": iter("12")}), 2**70], b'[{"numbers":[1,2]},1180591620717411303424]'),
        (Lenient(x=math.inf, y=b"x"), b'{"x":null,"y":null,"z":"1j"}'),
        (Careful(x=math.inf), b'{"x":null}'),
        (Validated(x=2), b'{"X":2}'),
        (Point(1, Model()), b'{"x":1,"model":{"number":"number 1"},"_hidden":3}'),
        (Slotted(1), b'{"_a":1}'),
    ],
)
def test_models_and_dataclasses_become_objects(value: object, body: bytes) -> None:
    assert encode(value).body == body


def test_the_annotation_of_the_result_changes_nothing() -> None:
    def base() -> Base:
        return Derived()

    def number() -> int:
        return "text"  # type: ignore[return-value]  # deliberately wrong

    assert result(base) == {"a": 1, "b": 2}
    assert result(number) == "text"


def test_a_dataclass_has_only_its_fields() -> None:
    point = Point(1, Model())
    assert point.total == 2
    assert b"total" not in encode(point).body


@given(VALUES)
def test_both_passes_of_the_encoding_agree(value: Any) -> None:
    encoded = encode(value).body
    assert orjson.loads(encoded) == orjson.loads(encode([value, iter([])]).body)[0]
    assert encoded == encode([value, iter([])]).body[1:-4]


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
        (Shorter(b"abc"), b"abc"),
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
    assert len(encode(Response(Shorter(b"abc"))).body) == len(b"abc")


@pytest.mark.parametrize("media_type", ["text", "a/b\r\nX: 1", "a/b; c=\0", " a/b", f"a/{'b' * 300}", "a/é"])
def test_a_response_rejects_an_invalid_media_type(media_type: str) -> None:
    with pytest.raises(ValueError, match=r"^invalid media type .*; use one such as 'image/png'$"):
        Response(b"", media_type=media_type)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (1, "not int; convert it, for example with str(value)"),
        ({"a": 1}, "not dict; return it without a Response, which sends it as JSON"),
        (io.BytesIO(b"x"), "not BytesIO; pass its getvalue()"),
        (np.zeros(1), "not ndarray; pass its tobytes()"),
        (Image.new("L", (1, 1)), "not Image; save it into buffer = io.BytesIO() and pass buffer.getvalue()"),
    ],
)
def test_a_response_rejects_other_contents_than_bytes_and_text(content: Any, problem: str) -> None:
    with pytest.raises(TypeError, match=f"^the content of a Response must be bytes or str, {re.escape(problem)}$"):
        Response(content)


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
