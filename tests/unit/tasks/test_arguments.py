"""The bytes of a JSON body become arguments."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.core.outcome import Reason
from tests.unit.tasks.calling import answer, compiled, errors, fault, result

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(10**40), 10**40) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
).filter(lambda value: "Infinity" not in json.dumps(value))


@pytest.fixture
def any_number_of_digits() -> Iterator[None]:
    """Lift the limit on digits, as a worker does."""
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
def test_any_json_value_arrives(value: Any) -> None:
    arguments = {"x": value}
    for is_ascii in (True, False):
        text = json.dumps(arguments, ensure_ascii=is_ascii).encode("utf-8", "replace")
        if is_ascii and any(0xD800 <= ord(letter) < 0xE000 for letter in repr(value)):
            continue
        assert compiled(echo).decode(text) == json.loads(text)


@pytest.mark.usefixtures("any_number_of_digits")
@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64, -(2**64), 10**5000 + 1], ids=int.bit_length)
def test_integers_of_any_length_go_in_and_out_unchanged(number: int) -> None:
    body = b'{"x": %d}' % number
    assert answer(echo, body).body == b"%d" % number
    assert answer(whole, body).body == b"%d" % number


@pytest.mark.usefixtures("any_number_of_digits")
def test_long_integers_arrive_unchanged_at_any_offset_of_a_large_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """The body is scanned in steps; a number may span two of them."""
    monkeypatch.setattr("offload.tasks.arguments._STEP_BYTES", 100)
    number = 2**64 + 1
    for spaces in range(300):
        body = b'{%b"x": %d}' % (b" " * spaces, number)
        assert answer(whole, memoryview(body)).body == b"%d" % number


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
def test_many_digits_that_are_not_an_integer_keep_their_value(text: bytes, value: Any) -> None:
    assert compiled(echo).decode(b'{"x": %s}' % text) == {"x": value}


def test_an_empty_body_means_no_arguments() -> None:
    assert result(nothing) is None
    assert result(nothing, b"{}") is None


def test_the_body_may_be_a_memoryview() -> None:
    assert result(echo, memoryview(b'{"x": 12345678901234567890123}')) == 12345678901234567890123.0
    assert fault(echo, memoryview(b'{"x": ')).fields["position"] == 6


def test_the_last_of_several_members_with_one_name_counts() -> None:
    assert result(echo, b'{"x": 1, "x": 2}') == 2


def test_the_query_string_is_ignored_with_a_json_body() -> None:
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
def test_malformed_json_is_reported_with_the_byte_offset(body: bytes, position: int) -> None:
    found = fault(echo, body)
    assert (found.reason, found.fields["position"]) == (Reason.INVALID_JSON, position)


@pytest.mark.parametrize(
    ("body", "what_happened"),
    [
        (b'{"x": NaN}', "Malformed JSON at byte 6: unexpected character, expected a JSON value"),
        (b'{"x": "a\xff"}', "Malformed JSON at byte 8: the text is not valid UTF-8"),
        (b"[]", "The JSON body is not an object"),
        (
            b'{"x": %s}' % (b"7" * 5_000),
            "The JSON body cannot be read: Exceeds the limit (4300 digits) for integer string conversion: "
            "value has 5000 digits; use sys.set_int_max_str_digits() to increase the limit",
        ),
    ],
)
def test_an_unreadable_body_is_reported_with_the_remedy(body: bytes, what_happened: str) -> None:
    remedy = 'Send the arguments as the members of one JSON object, such as {"limit": 30}.'
    assert fault(echo, body).fields["detail"] == f"{what_happened}. {remedy}"


def test_a_deeply_nested_long_number_is_rejected() -> None:
    """The depth of the interpreter's stack decides whether reading or writing it fails."""
    body = b'{"x": ' + b"[" * 1_000 + b"12345678901234567890" + b"]" * 1_000 + b"}"
    assert fault(echo, body).reason in (Reason.INVALID_JSON, Reason.RESULT_NOT_SERIALISABLE)


@pytest.mark.parametrize("body", [b"null", b"[]", b"5", b'"x"'])
def test_json_that_is_not_an_object_is_rejected(body: bytes) -> None:
    found = fault(echo, body)
    assert (found.reason, found.fields["position"]) == (Reason.INVALID_JSON, 0)


def test_missing_and_unknown_arguments_are_reported_together() -> None:
    found = fault(two, b'{"c": 1, "d/e~f": 2}')
    assert found.fields == {
        "detail": "The arguments have 3 errors. Correct what `errors` lists and send the job again.",
        "errors": [
            {"pointer": "/a", "detail": "This argument is required"},
            {"pointer": "/c", "detail": "Unknown argument. Known arguments: a, b"},
            {"pointer": "/d~1e~0f", "detail": "Unknown argument. Known arguments: a, b"},
        ],
    }


def test_one_error_is_counted_in_the_singular() -> None:
    detail = fault(two, b"").fields["detail"]
    assert detail == "The arguments have 1 error. Correct what `errors` lists and send the job again."


def test_an_unknown_argument_of_a_task_without_arguments() -> None:
    assert errors(nothing, b'{"a": 1}') == {"/a": "The task takes no arguments"}


def test_at_most_20_known_arguments_are_listed() -> None:
    parameters = ", ".join(f"p{number:02}=None" for number in range(21))
    function = eval(f"lambda {parameters}: None")
    function.__name__ = "many"
    listed = ", ".join(f"p{number:02}" for number in range(20))
    assert errors(function, b'{"a": 1}') == {"/a": f"Unknown argument. Known arguments: {listed}, …"}


def test_the_function_supplies_its_defaults() -> None:
    assert result(two, b'{"a": 1}') == [1, 2]


def test_positional_only_parameters_are_passed_by_name() -> None:
    def positional(a: int, b: int = 2, c: int = 3, /, *, d: int = 4) -> list[int]:
        return [a, b, c, d]

    assert result(positional, b'{"a": 1, "c": 5, "d": 6}') == [1, 2, 5, 6]


def test_extra_arguments_go_to_kwargs() -> None:
    def anything(a: Any, /, **more: Any) -> Any:
        return [a, more]

    def whole_numbers(**more: int) -> Any:
        return more

    assert result(anything, b'{"a": 1, "b": 2}') == [1, {"b": 2}]
    assert result(whole_numbers, b'{"b": "2"}') == {"b": 2}
    assert set(errors(whole_numbers, b'{"b": "x"}')) == {"/b"}


def test_at_most_100_errors_are_listed() -> None:
    body = json.dumps({f"name{'x' * 1000}{number}": 1 for number in range(1_000)}).encode()
    found = fault(nothing, body)
    assert len(found.fields["errors"]) == 101
    assert found.fields["errors"][-1] == {"pointer": "", "detail": "900 more errors are not listed"}
    assert len(found.to_json()) < 100_000
