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
    monkeypatch.setattr("offload.tasks.arguments.json_text._STEP_BYTES", 100)
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


REPEATED = "This name occurs more than once in its object. Send it once"


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        (b'{"x": 1, "x": 2}', {"/x"}),
        (b'{"x": 1, "x": 1, "x": 1}', {"/x"}),
        (b'{"x": 1, "\\u0078": 2}', {"/x"}),
        (b'{"x": "12:30", "x": 2}', {"/x"}),
        (b'{"x": "\\u003a\\u003a", "x": 2}', {"/x"}),
        (b'{"x": {"a": 1, "a": 2}}', {"/x/a"}),
        (b'{"x": [0, {"a/b": {"c": 1, "c": 2}, "d": 1, "d": 2}], "x": 1, "y": {"e": 1, "e": 1}}', {"/x", "/y/e"}),
        (b'{"x": {"a": 12345678901234567890123, "a": 2}}', {"/x/a"}),
        (b'{"x": %b{"a": 1, "a": 2}%b}' % (b"[" * 300, b"]" * 300), {"/x" + "/0" * 300 + "/a"}),
    ],
)
def test_a_repeated_member_is_an_error(body: bytes, pointers: set[str]) -> None:
    found = errors(echo, body)
    assert set(found.values()) == {REPEATED}
    assert {pointer.partition("…")[0] for pointer in found} == {pointer[:300] for pointer in pointers}


members = st.recursive(
    st.none()
    | st.sampled_from([":", "\\u003a", "a:b", '"', "\\"])
    | st.integers(-(10**30), 10**30)
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(st.tuples(st.sampled_from("abc:"), inner), max_size=3).map(tuple)
    ),
    max_leaves=12,
)


def written(value: Any, is_ascii: bool) -> str:
    """Returns JSON text; a tuple is an object with these members."""
    if isinstance(value, tuple):
        members = ", ".join(f"{json.dumps(name)}: {written(member, is_ascii)}" for name, member in value)
        return f"{{{members}}}"
    if isinstance(value, list):
        return f"[{', '.join(written(item, is_ascii) for item in value)}]"
    text = json.dumps(value, ensure_ascii=is_ascii)
    return text.replace(":", "\\u003a") if is_ascii else text


def has_repeated(value: Any) -> bool:
    if isinstance(value, tuple):
        names = [name for name, _ in value]
        return len(set(names)) < len(names) or any(has_repeated(member) for _, member in value)
    return isinstance(value, list) and any(map(has_repeated, value))


@given(members, st.booleans())
def test_repeated_members_are_found_wherever_they_are(value: Any, is_ascii: bool) -> None:
    text = written((("x", value),), is_ascii)
    body = text.encode("utf-8", "replace")
    if has_repeated(value):
        assert set(errors(echo, body).values()) == {REPEATED}
    else:
        assert compiled(echo).decode(body) == json.loads(body)


def test_repeated_members_of_a_body_in_pieces_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offload.tasks.arguments.json_text._STEP_BYTES", 100)
    fields = ", ".join(f'"name{number}": "a:b"' for number in range(100))
    once, twice = f'{{"x": {{{fields}}}}}', f'{{"x": {{{fields}, "name50": 1}}}}'
    assert len(result(echo, memoryview(once.encode()))) == 100
    assert set(errors(echo, memoryview(twice.encode()))) == {"/x/name50"}


def test_arguments_in_a_query_string_that_is_not_read_are_an_error() -> None:
    remedy = "This argument is in the query string, which is not read. Send it in the JSON body"
    assert errors(two, b'{"a": 1}', query="b=2&a=%31") == {"/a": remedy, "/b": remedy}
    assert errors(two, b'{"a": 1}', query="b") == {"/b": remedy}
    assert result(two, b'{"a": 1}', query="utm_source=mail&B=3&%ff=1&=") == [1, 2]


def test_any_field_of_the_query_string_may_be_an_argument_of_kwargs() -> None:
    def anything(**more: Any) -> Any:
        return more

    assert set(errors(anything, b"{}", query="utm_source=mail")) == {"/utm_source"}


@pytest.mark.parametrize("body", [b"a=1&b=2", b"a=1", b"{%22a%22:1}"])
def test_a_url_encoded_form_is_named_in_the_error(body: bytes) -> None:
    found = fault(two, body, content_type="application/x-www-form-urlencoded; charset=utf-8")
    assert found.reason is Reason.INVALID_JSON
    assert found.fields["detail"].startswith("The body is a URL-encoded form (application/x-www-form-urlencoded)")


def test_json_may_declare_to_be_a_url_encoded_form_as_curl_does() -> None:
    assert result(two, b'{"a": 1}', content_type="application/x-www-form-urlencoded") == [1, 2]
    assert errors(two, b"", content_type="application/x-www-form-urlencoded") == {"/a": "This argument is required"}


@pytest.mark.parametrize("charset", ["latin-1", '"ISO-8859-1"', "utf-16", "windows-1252"])
def test_json_in_another_charset_is_rejected_unless_it_is_ascii(charset: str) -> None:
    content_type = f"application/json; charset={charset}"
    found = fault(echo, '{"x": "é"}'.encode(), content_type=content_type)
    assert (found.reason, found.fields["position"]) == (Reason.INVALID_JSON, 0)
    assert charset.strip('"') in found.fields["detail"]
    assert result(echo, b'{"x": "e"}', content_type=content_type) == "e"


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf8"', "us-ascii"])
def test_json_may_declare_utf_8(charset: str) -> None:
    assert result(echo, '{"x": "é"}'.encode(), content_type=f"application/json;charset={charset}") == "é"


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
        (b"\xef\xbb\xbf{}", "Malformed JSON at byte 0: the text begins with a byte order mark"),
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
