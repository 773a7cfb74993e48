"""The parts of a form become arguments."""

from __future__ import annotations

import io
import json
import pathlib
import sys
import types
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr
from typing_extensions import TypedDict

from offload.core.outcome import Reason
from offload.tasks.arguments.content_type import read_content_type
from offload.tasks.arguments.form_parts import MAX_PARTS, read_form
from offload.tasks.definition.parameters import BodyKind
from tests.unit.tasks.calling import compiled, errors, fault, result

BOUNDARY = "----frontier"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def part(name: str, content: bytes | str, *headers: str, file: str | None = None) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    filename = "" if file is None else f'; filename="{file}"'
    head = [f'Content-Disposition: form-data; name="{name}"{filename}', *headers]
    return "\r\n".join([f"--{BOUNDARY}", *head, "", ""]).encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def fields(**values: bytes | str) -> bytes:
    return form(*(part(name, value) for name, value in values.items()))


class Colour(Enum):
    RED = "1"


class Level(IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    label: str


class Options(TypedDict):
    deep: bool


class Model(BaseModel):
    size: int


def taking(hint: Any) -> Any:
    def take(x: Any) -> Any:
        return x

    take.__annotations__["x"] = hint
    return take


def read(hint: Any, *parts: bytes) -> Any:
    """Returns the argument `x` that a task gets."""
    one = compiled(taking(hint))
    return one.validate(one.decode(form(*parts), "", FORM))["x"]


@pytest.mark.parametrize(
    ("hint", "text", "expected"),
    [
        (int, "5", 5),
        (int, "12345678901234567890123", 12345678901234567890123),
        (float, "1e3", 1000.0),
        (float, ".5", 0.5),
        (bool, "true", True),
        (bool, "yes", True),
        (str, "5", "5"),
        (str, "null", "null"),
        (str, '{"a": 1}', '{"a": 1}'),
        (str, "", ""),
        (str, "é\r\n--x", "é\r\n--x"),
        (str | None, "null", "null"),
        (int | None, "null", None),
        (int | str, "5", "5"),
        (Any, "5", 5),
        (Any, "true", True),
        (Any, "01234", "01234"),
        (Any, "a b", "a b"),
        (Any, '{"a": [1]}', {"a": [1]}),
        (Decimal, "1.10", Decimal("1.10")),
        (Decimal, "0.1234567890123456789012345", Decimal("0.1234567890123456789012345")),
        (datetime, "2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5)),
        (date | None, "2026-01-02", date(2026, 1, 2)),
        (timedelta, "PT90S", timedelta(seconds=90)),
        (UUID, "11111111111111111111111111111111", UUID(int=0x11111111111111111111111111111111)),
        (pathlib.Path, "5", pathlib.Path("5")),
        (SecretStr, "5", SecretStr("5")),
        (Colour, "1", Colour.RED),
        (Level, "1", Level.LOW),
        (Literal["1", "2"], "1", "1"),
        (Literal[1, 2], "1", 1),
        (Annotated[str, Field(max_length=1)], "5", "5"),
        (list[int], "[1, 2]", [1, 2]),
        (list[int], "1", [1]),
        (list[int] | None, "null", None),
        (list[str], "5", ["5"]),
        (list[str], '["5"]', ["5"]),
        (list[str] | str, "5", "5"),
        (set[str], "a", {"a"}),
        (tuple[int, str], '[1, "a"]', (1, "a")),
        (Point, '[1, "2"]', Point(1, "2")),
        (Options, '{"deep": true}', {"deep": True}),
        (Mapping[str, int], '{"a": 1}', {"a": 1}),
        (dict[str, Any] | list[int], '{"a": 1}', {"a": 1}),
        (Model, '{"size": 1}', Model(size=1)),
        (list[Model], '{"size": 1}', [Model(size=1)]),
        (bytes, "5", b"5"),
        (bytes | None, "", b""),
        (bytes | str, "5", "5"),
    ],
)
def test_a_field_becomes_what_the_parameter_takes(hint: Any, text: str, expected: Any) -> None:
    found = read(hint, part("x", text))
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("hint", "texts", "expected"),
    [
        (list[int], ["1", "2"], [1, 2]),
        (list[str], ["1", "[]"], ["1", "[]"]),
        (Sequence[Any], ["1", "a"], [1, "a"]),
        (Any, ["1", "a"], [1, "a"]),
        (set[str], ["1", "1"], {"1"}),
        (tuple[int, ...], ["1", "2", "3"], (1, 2, 3)),
        (Point, ["1", "2"], Point(1, "2")),
        (list[list[int]], ["[1]", "[2, 3]"], [[1], [2, 3]]),
        (list[Model] | None, ['{"size": 1}', '{"size": 2}'], [Model(size=1), Model(size=2)]),
        (list[Colour], ["1", "1"], [Colour.RED, Colour.RED]),
        (list[bytes], ["1", "2"], [b"1", b"2"]),
        (tuple[bytes, ...], ["1", "2"], (b"1", b"2")),
    ],
)
def test_a_repeated_field_becomes_a_list(hint: Any, texts: list[str], expected: Any) -> None:
    assert read(hint, *(part("x", text) for text in texts)) == expected


@pytest.mark.parametrize(
    ("hint", "content", "expected"),
    [
        (bytes, b"\xff\r\n--\0", b"\xff\r\n--\0"),
        (bytes, b"", b""),
        (bytes | str, b"5", b"5"),
        (list[bytes], b"[1]", [b"[1]"]),
        (str, b"5", "5"),
        (int, b"5", 5),
        (Any, b'{"a": 1}', {"a": 1}),
        (Model, b'{"size": 1}', Model(size=1)),
    ],
)
def test_a_file_becomes_what_the_parameter_takes(hint: Any, content: bytes, expected: Any) -> None:
    assert read(hint, part("x", content, "Content-Type: application/octet-stream", file="../a.bin")) == expected


def test_a_view_of_a_file_is_no_copy() -> None:
    body = bytearray(form(part("data", b"abc", file="a"), part("scale", "2")))

    def look(data: memoryview, scale: int) -> Any:
        return data

    one = compiled(look)
    view = one.validate(one.decode(memoryview(body), "", FORM))["data"]
    body[body.index(b"abc")] = ord("x")
    assert (view.readonly, bytes(view)) == (True, b"xbc")
    assert not one.copies_body(FORM)


def npy(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def test_an_array_is_an_npy_file_or_json() -> None:
    def scaled(array: np.ndarray, factor: float = 1) -> Any:
        return array * factor

    for content in (npy(np.array([[1, 2]])), b"[[1, 2]]"):
        assert result(scaled, form(part("array", content, file="a"), part("factor", "2")), content_type=FORM) == [
            [2, 4]
        ]
    wrong = {b"a,b": "an .npy file, or JSON lists", b"\xff": "an .npy file, or JSON lists", npy([1])[:-1]: ".npy file"}
    for content, detail in wrong.items():
        found = errors(scaled, form(part("array", content, file="a")), content_type=FORM)
        assert (set(found), detail in found["/array"]) == ({"/array"}, True)


def add(a: int, b: int = 0) -> int:
    return a + b


def measure(data: bytes, tag: str = "none") -> Any:
    return [len(data), tag]


def test_a_task_for_json_and_a_task_for_bytes_take_forms() -> None:
    assert result(add, fields(a="1", b="2"), content_type=FORM) == 3
    assert result(measure, form(part("data", b"hello", file="a"), part("tag", "x")), content_type=FORM) == [5, "x"]


def compare(first: bytes, second: memoryview, weights: np.ndarray | None = None) -> Any:
    return [first.decode(), bytes(second).decode(), None if weights is None else weights.tolist()]


def test_a_task_with_several_bodies_takes_only_forms() -> None:
    assert compiled(compare).body_kind is BodyKind.FORM
    parts = [part("first", b"a", file="a"), part("second", b"b", file="b")]
    assert result(compare, form(*parts), content_type=FORM) == ["a", "b", None]
    assert result(compare, form(*parts, part("weights", npy([1]))), content_type=FORM) == ["a", "b", [1]]
    for content_type in ("", "application/json", "application/octet-stream"):
        found = fault(compare, b'{"first": "a", "second": "b"}', content_type=content_type)
        assert (found.reason, found.fields["supported"]) == (Reason.UNSUPPORTED_MEDIA_TYPE, ["multipart/form-data"])


@pytest.mark.parametrize("body", [b"data=hello&tag=x", b"data=%68", b"data=", b"tag=x", b"d%61ta=1"])
def test_a_url_encoded_form_for_bytes_is_an_error(body: bytes) -> None:
    found = fault(measure, body, content_type="application/x-www-form-urlencoded")
    assert (found.reason, "application/octet-stream" in found.fields["detail"]) == (Reason.BAD_REQUEST, True)


@pytest.mark.parametrize(
    "body", [b"hello", b"", b"data", b"data=1&other=2", b"\xff=1", b"x" * 500 + b"=1", b'{"data": 1}']
)
def test_other_bytes_may_declare_to_be_one_as_curl_does(body: bytes) -> None:
    assert result(measure, body, content_type="application/x-www-form-urlencoded") == [len(body), "none"]
    assert result(measure, b"data=1") == [6, "none"]


def test_a_decimal_number_in_a_form_keeps_all_digits() -> None:
    digits = "0.1234567890123456789012345678"
    assert read(dict[str, Decimal], part("x", f'{{"a": {digits}}}')) == {"a": Decimal(digits)}


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "multipart", types.ModuleType("multipart"))
    found = fault(add, fields(a="1"), content_type=FORM)
    assert (found.reason, "`multipart`" in found.fields["detail"]) == (Reason.UNSUPPORTED_MEDIA_TYPE, True)


class WithoutSchema(int):
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return handler(int)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> Any:
        raise RuntimeError("no schema")


def test_a_type_without_a_schema_is_read_all_the_same() -> None:
    assert read(WithoutSchema, part("x", "5")) == 5


def test_an_empty_form_has_no_arguments() -> None:
    def nothing(a: int = 1) -> int:
        return a

    assert result(nothing, form(), content_type=FORM) == 1
    assert errors(measure, form(), content_type=FORM) == {"/data": "This argument is required"}


def test_all_errors_of_a_form_are_reported_at_once() -> None:
    def many(*, a: int, b: int, data: bytes, c: str = "", d: Any = None, e: pathlib.Path | None = None) -> None: ...

    parts = [
        part("a", "1"),
        part("a", "2"),
        part("c", b"\xff"),
        part("d", '{"x": {"y": 1, "y": 2}}'),
        part("e", b"x", file="x"),
        part("f/g", "1"),
        part("b", "x"),
    ]
    assert errors(many, form(*parts), query="c=1&utm_source=mail", content_type=FORM) == {
        "/a": "This field occurs 2 times, but the argument is not a list. Send it once",
        "/b": "Input should be a valid integer, unable to parse string as an integer",
        "/c": "This argument is in the query string, which is not read. Send it as a field of the form",
        "/d/x/y": "This name occurs more than once in its object. Send it once",
        "/data": "This argument is required",
        "/e": "The argument is the path of a file, not its content",
        "/f~1g": "Unknown argument. Known arguments: a, b, c, d, data, e",
    }


def test_further_fields_go_to_kwargs() -> None:
    def anything(a: int, **more: list[int]) -> Any:
        return [a, more]

    assert result(anything, fields(a="1", b="2"), content_type=FORM) == [1, {"b": [2]}]


def test_fields_are_named_by_aliases() -> None:
    def take(data: Annotated[bytes, Field(alias="file")], limit: Annotated[str, Field(alias="maxItems")] = "") -> Any:
        return [data.decode(), limit]

    assert result(take, fields(file="a", maxItems="5"), content_type=FORM) == ["a", "5"]
    assert set(errors(take, fields(data="a"), content_type=FORM)) == {"/file", "/data"}


@pytest.mark.parametrize(
    ("charset", "content", "expected"),
    [
        ("utf-8", "é".encode(), "é"),
        ('"ISO-8859-1"', b"\xe9", "é"),
        ("windows-1252", b"\x80", "€"),
        ("utf-16", "é".encode("utf-16"), "é"),
    ],
)
def test_a_field_may_name_its_charset(charset: str, content: bytes, expected: str) -> None:
    assert read(str, part("x", content, f"Content-Type: text/plain; charset={charset}")) == expected


@pytest.mark.parametrize("charset", ["utf-7", "idna", "zip", "rot13", "unicode_escape", "x" * 1000])
def test_another_charset_is_an_error(charset: str) -> None:
    body = form(part("x", "a", f"Content-Type: text/plain; charset={charset}"))
    assert errors(taking(str), body, content_type=FORM) == {
        "/x": "The charset of this field is not supported. Send UTF-8"
    }


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (f'multipart/form-data; boundary="{BOUNDARY}"', fields(a="1")),
        (f"Multipart/Form-Data;Boundary={BOUNDARY}; charset=utf-8", fields(a="1")),
        ('multipart/form-data; boundary="a b=c/d"', fields(a="1").replace(BOUNDARY.encode(), b"a b=c/d")),
        ("multipart/form-data; boundary=a=b/c:d", fields(a="1").replace(BOUNDARY.encode(), b"a=b/c:d")),
        (FORM, b"preamble\r\n" + fields(a="1") + b"epilogue"),
        (FORM, b"x" * 200_000 + b"\r\n" + fields(a="1") + b"x" * 200_000),
        (FORM, fields(a="1").rstrip()),
        (FORM, fields(a="1").replace(b"form-data; name=", b"FORM-DATA;name=")),
        (FORM, fields(a="1").replace(b'name="a"', b"name=a")),
        (FORM, fields(a="1").replace(b"Content-Disposition", b"content-disposition")),
        (FORM, form(part("a", "1", "Content-Length: 1", "Content-Transfer-Encoding: 8bit", "X-Other: 1"))),
    ],
)
def test_an_unusual_envelope_is_read(content_type: str, body: bytes) -> None:
    assert result(add, body, content_type=content_type) == 1


GOOD = fields(a="1")


@pytest.mark.parametrize(
    ("content_type", "body", "problem"),
    [
        ("multipart/form-data", GOOD, "its Content-Type must name one boundary"),
        ("multipart/form-data; boundary=", GOOD, "its Content-Type must name one boundary"),
        (f"{FORM}; boundary=x", GOOD, "its Content-Type must name one boundary"),
        (FORM.upper(), GOOD, "it ends early, before its last line"),
        (FORM, b"", "it ends early, before its last line"),
        (FORM, b'{"a": 1}', "it ends early, before its last line"),
        (FORM, GOOD[:-6], "it ends early, before its last line"),
        (FORM, GOOD[:40], "it ends early, before its last line"),
        (FORM, GOOD.replace(b"\r\n", b"\n"), "invalid line break after first boundary"),
        (FORM, b"x" + GOOD, "unexpected byte in front of first boundary"),
        (FORM, GOOD.replace(b"form-data; ", b"attachment; "), "invalid Content-Disposition part header: Wrong type"),
        (FORM, GOOD.replace(b"Content-Disposition", b"X-Other"), "missing Content-Disposition part header"),
        (FORM, GOOD.replace(b'name="a"', b'name="\xff"'), "part header failed to decode"),
        (FORM, form(part("a", "1", "no header")), "malformed part header"),
        (FORM, form(part("a", "1", "Content-Length: 2")), "part size does not match Content-Length header"),
        (FORM, form(part("a", "MQ==", "Content-Transfer-Encoding: base64")), "'a' has the Content-Transfer-Encoding"),
        (FORM, form(part("a", "1", "Content-Encoding: gzip")), "the part 'a' has the Content-Encoding 'gzip'"),
        (FORM, form(part("a", "1", "Content-Type: multipart/mixed; boundary=x")), "the part 'a' is a form itself"),
        (FORM, form(*[part("a", "1")] * (MAX_PARTS + 1)), "it is beyond a limit (1,000 parts, 16 headers in each"),
        (FORM, form(part("a", "1", "X-Long: " + "x" * 5_000)), "it is beyond a limit"),
        (FORM, part("a", "1")[:-5] + b"x" * 1_000_000, "it is beyond a limit"),
        (FORM, form(part("a", "1", *[f"X-{number}: 1" for number in range(20)])), "it is beyond a limit"),
    ],
)
@pytest.mark.parametrize("task", [add, measure])
def test_a_malformed_envelope_is_rejected(task: Any, content_type: str, body: bytes, problem: str) -> None:
    found = fault(task, body, content_type=content_type)
    assert found.reason is Reason.BAD_REQUEST
    assert found.fields["detail"].startswith("The form cannot be read: ")
    assert problem in found.fields["detail"]
    assert found.fields["detail"].endswith(".")


contents = st.binary(max_size=50) | st.sampled_from(
    [b"\r\n", b"\r\n--", b"--" + BOUNDARY.encode()[:-1], b"\r", b"-" * 200]
)
names = st.text(st.characters(codec="utf-8", exclude_characters='\0"%\r\n\\'), min_size=1, max_size=10)


@given(
    parts=st.lists(st.tuples(names, st.lists(contents, max_size=4).map(b"".join)), max_size=8), step=st.integers(1, 300)
)
def test_the_parts_of_a_form_arrive_whole_in_any_steps(parts: list[tuple[str, bytes]], step: int) -> None:
    body = form(*(part(name, content, file="a") for name, content in parts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("offload.tasks.arguments.form_parts._STEP_BYTES", step)
        patch.setattr("offload.tasks.arguments.form_parts._SEARCH_BYTES", step)
        found = [(one.name, bytes(one.content)) for one in read_form(body, read_content_type(FORM))]
    if BOUNDARY.encode() not in b"".join(content for _, content in parts):
        assert found == parts


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.from_regex("[a-z]{1,5}", fullmatch=True), json_values, max_size=5))
def test_a_form_of_json_values_has_the_arguments_of_the_json_body(arguments: dict[str, Any]) -> None:
    def anything(**more: Any) -> Any:
        return more

    body = fields(**{name: json.dumps(value) for name, value in arguments.items()})
    one = compiled(anything)
    assert one.decode(body, "", FORM) == one.decode(json.dumps(arguments).encode())
