"""How the bytes of a JSON body become arguments."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.core.job import Reason
from tests.unit.tasks.calling import answer, compiled, errors, fault, result

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(10**40), 10**40) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
).filter(lambda value: "Infinity" not in json.dumps(value))


@pytest.fixture
def any_number_of_digits() -> Iterator[None]:
    """As in a worker."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    yield
    sys.set_int_max_str_digits(before)


def echo(x: Any) -> Any:
    return x


def whole(x: int) -> int:
    return x


def two(a: Any, b: Any = 2) -> Any:
    return [a, b]


def nothing() -> None: ...


@given(json_values)
def test_whatever_json_says_arrives(value: Any) -> None:
    arguments = {"x": value}
    for is_ascii in (True, False):
        text = json.dumps(arguments, ensure_ascii=is_ascii).encode("utf-8", "replace")
        if is_ascii and any(0xD800 <= ord(letter) < 0xE000 for letter in repr(value)):
            continue
        assert compiled(echo).decode(text) == json.loads(text)


@pytest.mark.usefixtures("any_number_of_digits")
@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64, -(2**64), 10**5000 + 1], ids=int.bit_length)
def test_whole_numbers_of_any_length_go_in_and_out_whole(number: int) -> None:
    body = b'{"x": %d}' % number
    assert answer(echo, body).body == b"%d" % number
    assert answer(whole, body).body == b"%d" % number


@pytest.mark.usefixtures("any_number_of_digits")
def test_whole_numbers_arrive_whole_wherever_they_stand_in_a_large_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at in steps, and a number may begin in one and end in the next."""
    monkeypatch.setattr("offload.tasks.arguments._STEP_BYTES", 100)
    number = 2**64 + 1
    for spaces in range(300):
        body = b'{%b"x": %d}' % (b" " * spaces, number)
        assert answer(whole, memoryview(body)).body == b"%d" % number


def test_a_number_that_is_too_long_for_the_interpreter_is_a_fault() -> None:
    assert fault(echo, b'{"x": %s}' % (b"7" * 5000)).reason is Reason.INVALID_JSON


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"1234567890123456789012.5", 1234567890123456789012.5),
        (b"1234567890123456789012e1", 1234567890123456789012e1),
        (b"0.1234567890123456789012", 0.1234567890123456789012),
        (b'"\\u00411234567890123456789"', "A1234567890123456789"),
        (b'["1234567890123456789012", 12345678901234567890123]', ["1234567890123456789012", 12345678901234567890123]),
    ],
)
def test_many_digits_that_are_no_whole_number_stay_what_they_are(text: bytes, value: Any) -> None:
    assert compiled(echo).decode(b'{"x": %s}' % text) == {"x": value}


def test_an_empty_body_is_no_arguments() -> None:
    assert result(nothing) is None
    assert result(nothing, b"{}") is None


def test_the_body_may_be_a_view_of_a_buffer() -> None:
    assert result(echo, memoryview(b'{"x": 12345678901234567890123}')) == 12345678901234567890123.0
    assert fault(echo, memoryview(b'{"x": ')).fields["position"] == 6


def test_of_members_with_one_name_the_last_counts() -> None:
    assert result(echo, b'{"x": 1, "x": 2}') == 2


def test_the_query_string_is_ignored_beside_a_json_body() -> None:
    assert result(echo, b'{"x": 1}', query="x=2&y=3") == 1


@pytest.mark.parametrize(
    ("body", "position"),
    [
        (b'{"x":', 5),
        (b'{"x": NaN}', 6),
        (b'{"x": 1e999}', 6),
        (b'{"x": [12345678901234567890, NaN]}', 29),
        (b'{"x": "\\ud800"}', 7),
        (b'{"x": "\\ud800", "y": 12345678901234567890}', 7),
        ('{"é": 1,}'.encode(), 8),
        (b'{"x": "a\xff"}', 8),
        (b"\xef\xbb\xbf{}", 0),
        (b" ", 0),
        (b"[" * 100_000, 1025),
        (b'{"x": ' * 100_000, 6145),
    ],
)
def test_what_is_no_json_is_a_fault_with_the_offset_of_the_byte(body: bytes, position: int) -> None:
    found = fault(echo, body)
    assert (found.reason, found.fields["position"]) == (Reason.INVALID_JSON, position)


def test_a_long_number_in_a_deep_nest_is_a_fault() -> None:
    """Where depends on the interpreter's stack: when it is read, or when it is sent back."""
    body = b'{"x": ' + b"[" * 1_000 + b"12345678901234567890" + b"]" * 1_000 + b"}"
    assert fault(echo, body).reason in (Reason.INVALID_JSON, Reason.RESULT_NOT_SERIALISABLE)


@pytest.mark.parametrize("body", [b"null", b"[]", b"5", b'"x"'])
def test_what_is_no_object_is_a_fault(body: bytes) -> None:
    found = fault(echo, body)
    assert (found.reason, found.fields["position"]) == (Reason.INVALID_JSON, 0)
    assert '{"limit": 30}' in found.fields["detail"]


def test_missing_and_unknown_names_are_told_together() -> None:
    assert errors(two, b'{"c": 1, "d/e~f": 2}') == {
        "/a": "This argument is required",
        "/c": "There is no such argument; known are: a, b",
        "/d~1e~0f": "There is no such argument; known are: a, b",
    }


def test_defaults_are_the_functions_own() -> None:
    assert result(two, b'{"a": 1}') == [1, 2]


def test_positional_only_arguments_are_given_by_name() -> None:
    def positional(a: int, b: int = 2, c: int = 3, /, *, d: int = 4) -> list[int]:
        return [a, b, c, d]

    assert result(positional, b'{"a": 1, "c": 5, "d": 6}') == [1, 2, 5, 6]


def test_further_arguments_go_to_a_function_that_takes_them() -> None:
    def anything(a: Any, /, **more: Any) -> Any:
        return [a, more]

    def whole_numbers(**more: int) -> Any:
        return more

    assert result(anything, b'{"a": 1, "b": 2}') == [1, {"b": 2}]
    assert result(whole_numbers, b'{"b": "2"}') == {"b": 2}
    assert set(errors(whole_numbers, b'{"b": "x"}')) == {"/b"}


def test_a_flood_of_unknown_names_is_counted_and_not_listed() -> None:
    body = json.dumps({f"name{'x' * 1000}{number}": 1 for number in range(1_000)}).encode()
    found = fault(nothing, body)
    assert len(found.fields["errors"]) == 101
    assert found.fields["errors"][-1] == {"pointer": "", "detail": "900 more errors are not listed"}
    assert len(found.to_json()) < 100_000
