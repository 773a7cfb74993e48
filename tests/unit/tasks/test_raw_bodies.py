"""Request bodies that are one argument: bytes, views and arrays."""

from __future__ import annotations

import io
import sys
from typing import Annotated, Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray
from pydantic import Field

from offload.core.outcome import Reason
from offload.tasks.definition.parameters import BodyKind
from tests.unit.tasks.calling import answer, compiled, errors, fault, result

NPY = "application/x-npy"


def image(data: bytes, scale: int = 1, tags: list[str] | None = None) -> Any:
    return [len(data), scale, tags]


def scaled(array: np.ndarray, factor: float = 1) -> Any:
    return array * factor


def pixels(array: NDArray[np.uint8] | None = None) -> Any:
    return None if array is None else [str(array.dtype), array.tolist()]


def counts(array: NDArray[np.int64]) -> Any:
    return array


def weights(array: NDArray[np.float64]) -> Any:
    return array


ROUNDED = (
    "Input should have elements that one type of 64 bits holds exactly; 9007199254740993 would be rounded beside "
    "the others"
)


def npy(array: Any, *, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def test_the_body_goes_to_the_bytes_parameter_and_the_query_string_to_the_others() -> None:
    assert compiled(image).body_kind is BodyKind.BYTES
    assert compiled(image).body_parameter == "data"
    assert result(image, b"\xff\0{", query="scale=3&tags=a%20b&tags=c") == [3, 3, ["a b", "c"]]


def test_a_single_query_field_becomes_a_list_for_a_list_parameter() -> None:
    assert result(image, b"x", query="tags=a") == [1, 1, ["a"]]


def test_errors_in_the_query_string_are_reported_together() -> None:
    assert errors(image, b"x", query="scale=big&more=1") == {
        "/scale": "Input should be a valid integer, unable to parse string as an integer",
        "/more": "Unknown argument. Known arguments: data, scale, tags",
    }


@pytest.mark.parametrize(
    ("query", "pointer", "detail"),
    [
        ("data=x", "/data", "This argument is the request body. Remove it from the query string"),
        ("scale=1&scale=2", "/scale", "Input should be a valid integer"),
        ("scale=%ff", "", "The query string must be percent-encoded UTF-8"),
        ("&".join(["tags=1"] * 2_000), "", "The query string may have at most 1,000 fields"),
    ],
)
def test_an_unusable_query_string_is_rejected(query: str, pointer: str, detail: str) -> None:
    assert errors(image, b"x", query=query) == {pointer: detail}


def test_a_memoryview_of_the_body_is_read_only_and_not_copied() -> None:
    seen: list[memoryview] = []

    def look(data: memoryview) -> int:
        seen.append(data)
        return len(data)

    buffer = bytearray(b"abc")
    assert result(look, memoryview(buffer)) == 3
    buffer[0] = ord("x")
    assert (seen[0].readonly, bytes(seen[0])) == (True, b"xbc")


def test_bytes_outlive_the_buffer_that_they_came_in() -> None:
    buffer = bytearray(b"abc")
    members = compiled(image).decode(memoryview(buffer))
    buffer[0] = ord("x")
    assert members == {"data": b"abc"}


def test_an_empty_body_is_empty_bytes_or_the_default_or_none() -> None:
    def optional(data: bytes | None) -> Any:
        return data

    def with_default(data: bytes = b"default") -> Any:
        return data.decode()

    assert result(image) == [0, 1, None]
    assert result(optional) is None
    assert result(with_default) == "default"


def test_hints_on_the_body_are_kept() -> None:
    def short(data: Annotated[bytes, Field(max_length=3)]) -> int:
        return len(data)

    assert result(short, b"abc") == 3
    assert errors(short, b"abcd") == {"/data": "Data should have at most 3 bytes"}


def test_an_array_can_be_nested_json_lists() -> None:
    assert compiled(scaled).body_kind is BodyKind.NPY_OR_JSON
    assert result(scaled, b'{"array": [[1, 2], [3, 4.5]], "factor": 2}') == [[2, 4], [6, 9]]


def test_an_array_can_be_an_npy_body_with_the_other_arguments_in_the_query_string() -> None:
    body = npy(np.arange(6).reshape(2, 3))
    assert result(scaled, memoryview(body), query="factor=2", content_type=f"{NPY.upper()}; v=1") == [
        [0, 2, 4],
        [6, 8, 10],
    ]


def test_an_array_is_copied_out_of_the_body() -> None:
    """The memory of the body may be reused when the job has finished."""

    def changed(array: np.ndarray) -> Any:
        array += 1
        return array

    values = np.arange(100_000.0).reshape(4, -1)
    body = bytearray(npy(values))
    array = answer(changed, memoryview(body).toreadonly(), content_type=NPY, accept=NPY)
    body[:] = bytes(len(body))
    assert np.array_equal(np.load(io.BytesIO(array.body)), values + 1)


def test_an_array_result_is_an_npy_file_if_accept_asks_for_it() -> None:
    media_type, body = answer(scaled, b'{"array": [1, 2]}', accept=NPY)
    assert media_type == NPY
    assert np.load(io.BytesIO(body)).tolist() == [1, 2]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        npy([1, 2])[:-1],
        npy([1, 2]) + b"x",
        npy([object()], allow_pickle=True),
        b"PK\x03\x04" + bytes(100),
        npy([1])[:10] + b"\xff" * 100,
        npy(np.zeros(1)).replace(b"(1,)", b"(-1,)"),
        npy(np.zeros(1)).replace(b"(1,), }", b"(10**15,), }"),
    ],
)
def test_a_broken_npy_file_is_rejected(body: bytes) -> None:
    assert set(errors(scaled, body, content_type=NPY)) == {"/array"}


@pytest.mark.parametrize(
    "array", [[[1, 2], [3]], ["a"], [None], {}, 5, "abc", [{"a": 1}], [12345678901234567890123], None]
)
def test_a_value_that_is_not_an_array_of_numbers_is_rejected(array: Any) -> None:
    body = b'{"array": [12345678901234567890123]}' if array == [12345678901234567890123] else b""
    assert set(errors(scaled, body or orjson.dumps({"array": array}))) == {"/array"}


@pytest.mark.parametrize(
    ("function", "array", "detail"),
    [
        (scaled, 5, "Input should be lists of numbers, nested once for each dimension"),
        (scaled, [[1], [2, 3]], "Input should be a rectangular array: all rows of a dimension have the same length"),
        (scaled, ["a"], "Input should contain only numbers that fit into 64 bits"),
        (scaled, [[1 << 63], [-1], [(1 << 53) + 1]], ROUNDED),
        (scaled, [0.5, (1 << 53) + 1], ROUNDED),
        (counts, [1.0, (1 << 53) + 1], ROUNDED),
        (pixels, ["1"], "Input should have elements that fit into uint8, not <U1"),
        (pixels, [256], "Input should have elements that fit into uint8; at least one does not"),
    ],
)
def test_a_rejected_array_is_reported_with_the_reason(function: Any, array: Any, detail: str) -> None:
    assert errors(function, orjson.dumps({"array": array})) == {"/array": detail}


@pytest.mark.parametrize(
    ("function", "array"),
    [
        (scaled, [0.5, 1 << 53]),
        (scaled, [-1, 1 << 63]),
        (scaled, [(1 << 53) + 1, -1]),
        (counts, [(1 << 53) + 1, -1]),
        (weights, [1 << 53, 0.5]),
    ],
)
def test_large_integers_in_an_array_keep_their_value(function: Any, array: Any) -> None:
    assert result(function, orjson.dumps({"array": array})) == array


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (npy([1, 2]) + b"x", "Input should be one .npy file; it has further bytes after the array"),
        (
            npy([object()], allow_pickle=True),
            "Input should be an .npy file without Python objects: "
            "Object arrays cannot be loaded when allow_pickle=False",
        ),
    ],
)
def test_a_rejected_npy_file_is_reported_with_the_reason(body: bytes, detail: str) -> None:
    assert errors(scaled, body, content_type=NPY) == {"/array": detail}


@pytest.mark.parametrize("array", [[256], [-1], [1.5], ["1"], [[1], [300]]])
def test_elements_that_do_not_fit_are_rejected(array: Any) -> None:
    assert set(errors(pixels, orjson.dumps({"array": array}))) == {"/array"}


def test_elements_are_converted_to_the_annotated_type() -> None:
    assert result(pixels, b'{"array": [1, 2.0]}') == ["uint8", [1, 2]]
    assert result(pixels, npy(np.array([1, 2], dtype=">i8")), content_type=NPY) == ["uint8", [1, 2]]
    assert result(pixels, b'{"array": []}') == ["uint8", []]
    assert result(pixels, b'{"array": null}') is None
    assert result(pixels) is None


def test_two_arrays_can_only_be_json() -> None:
    def add(a: NDArray[np.float64], b: NDArray[np.floating[Any]]) -> Any:
        return a + b

    assert compiled(add).body_kind is BodyKind.JSON
    assert result(add, b'{"a": [1], "b": [2]}') == [3.0]
    assert fault(add, npy([1]), content_type=NPY).reason is Reason.INVALID_JSON


@pytest.mark.skipif(sys.version_info < (3, 12), reason="PEP 695 needs Python 3.12")
def test_a_type_alias_is_resolved() -> None:
    names: dict[str, Any] = {"NDArray": NDArray, "uint8": np.uint8}
    exec("type Pixels = NDArray[uint8] | None\ntype Image = bytes", names)  # a syntax error before

    def both(array: Any) -> Any:
        return array

    both.__annotations__["array"] = names["Pixels"]
    assert set(errors(both, b'{"array": [300]}')) == {"/array"}
    both.__annotations__["array"] = names["Image"]
    assert answer(both, b"\xff").body == b"\xff"


def test_the_schema_describes_arrays_and_bytes() -> None:
    properties = compiled(scaled).arguments_schema()["properties"]
    assert properties["array"] == {"title": "Array", "type": "array"}
    assert compiled(image).arguments_schema()["properties"]["data"]["format"] == "binary"
