"""Parses JSON bodies and query strings into arguments, and checks argument names for tasks without type hints.

`validation` checks types; this module works without pydantic.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple, NoReturn
from urllib.parse import parse_qsl

import orjson

from offload.core.outcome import Reason
from offload.tasks.faults import Fault, shortened
from offload.tasks.parameters import Parameters

Body = bytes | bytearray | memoryview

MAX_ERRORS: Final = 100
_MAX_DETAIL_LENGTH: Final = 300
_MAX_KNOWN_NAMES: Final = 20
_MAX_QUERY_FIELDS: Final = 1_000

# A large body is scanned in copies of this size.
_STEP_BYTES: Final = 1 << 20
# The smallest number of digits that may exceed 64 bits; orjson reads such integers as floating point.
_MANY_DIGITS: Final = 19
_ALL_DIGITS_ZERO: Final = bytes.maketrans(b"0123456789", b"0" * 10)
# Digits that may be an integer: not after a decimal point or in an exponent.
_LONG_NUMBER: Final = re.compile(rb"(?<![.0-9eE])(?<![eE][+-])[0-9]{%d,}(?![0-9.eE])" % _MANY_DIGITS)


class ArgumentError(NamedTuple):
    """One error of an `invalid-arguments` fault; `pointer` is a JSON pointer (RFC 6901) into the arguments."""

    pointer: str
    detail: str


def invalid_arguments(errors: Sequence[ArgumentError], *, left_out: int = 0) -> Fault:
    """Returns the fault with at most 100 of `errors`, and one more that counts the rest, including `left_out`."""
    left_out += max(0, len(errors) - MAX_ERRORS)
    listed = [
        {"pointer": shortened(pointer, _MAX_DETAIL_LENGTH), "detail": shortened(detail, _MAX_DETAIL_LENGTH)}
        for pointer, detail in errors[:MAX_ERRORS]
    ]
    count = len(errors[:MAX_ERRORS]) + left_out
    if left_out:
        more = "1 more error is" if left_out == 1 else f"{left_out:,} more errors are"
        listed.append({"pointer": "", "detail": f"{more} not listed"})
    what = "1 error" if count == 1 else f"{count:,} errors"
    detail = f"The arguments have {what}. Correct what `errors` lists and send the job again."
    return Fault(Reason.INVALID_ARGUMENTS, detail=detail, errors=listed)


def pointer_to(*segments: str | int) -> str:
    """Returns the JSON pointer of a member; RFC 6901, section 3, defines the escapes."""
    return "".join("/" + str(segment).replace("~", "~0").replace("/", "~1") for segment in segments)


def missing(name: str) -> ArgumentError:
    return ArgumentError(pointer_to(name), "This argument is required")


def unknown(name: str, known: Collection[str]) -> ArgumentError:
    names = ", ".join(sorted(known)[:_MAX_KNOWN_NAMES])
    more = ", …" if len(known) > _MAX_KNOWN_NAMES else ""
    detail = f"Unknown argument. Known arguments: {names}{more}" if known else "The task takes no arguments"
    return ArgumentError(pointer_to(name), detail)


def parse_object(body: Body) -> dict[str, Any]:
    """Returns the members of the JSON object in `body`; an empty body has none.

    Integers keep their value at any length. The last of several members with one name counts. Raises Fault
    `invalid-json` with the byte offset as `position`.
    """
    if not len(body):
        return {}
    try:
        value = orjson.loads(body) if len(body) < _MANY_DIGITS else _parse(body)
    except orjson.JSONDecodeError as error:
        _raise_malformed(body, error)
    except RecursionError:
        raise _invalid_json("The JSON body is nested too deeply", 0) from None
    except ValueError as error:  # the interpreter's limit on digits, unless the worker lifted it
        raise _invalid_json(f"The JSON body cannot be read: {shortened(str(error), _MAX_DETAIL_LENGTH)}", 0) from None
    if not isinstance(value, dict):
        raise _invalid_json("The JSON body is not an object", 0)
    return value


def parse_query(query: str, several: Collection[str]) -> dict[str, Any]:
    """Returns the fields of a query string as text; those in `several`, and repeated ones, as lists."""
    try:
        fields = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_FIELDS)
    except UnicodeDecodeError:
        raise invalid_arguments([ArgumentError("", "The query string must be percent-encoded UTF-8")]) from None
    except ValueError:
        problem = f"The query string may have at most {_MAX_QUERY_FIELDS:,} fields"
        raise invalid_arguments([ArgumentError("", problem)]) from None
    values: dict[str, list[str]] = {}
    for name, value in fields:
        values.setdefault(name, []).append(value)
    return {name: given if len(given) > 1 or name in several else given[0] for name, given in values.items()}


class NameCheck:
    """Checks only the names of the arguments, for tasks without type hints."""

    def __init__(self, parameters: Parameters) -> None:
        self._known = frozenset(parameter.name for parameter in parameters.named)
        self._required = {parameter.name: None for parameter in parameters.named if parameter.is_required}
        self._takes_more = parameters.extra_hint is not None

    def validate(self, members: dict[str, Any]) -> dict[str, Any]:
        """Returns `members` unchanged. Raises Fault `invalid-arguments`."""
        given = members.keys()
        if given >= self._required.keys() and (self._takes_more or given <= self._known):
            return members
        errors = [missing(name) for name in self._required if name not in members]
        if not self._takes_more:
            errors += [unknown(name, self._known) for name in members if name not in self._known]
        raise invalid_arguments(errors)

    def schema(self) -> dict[str, Any]:
        """Returns the JSON Schema of the arguments."""
        return {
            "type": "object",
            "properties": {name: {} for name in sorted(self._known)},
            "required": list(self._required),
            "additionalProperties": self._takes_more,
        }


def _parse(body: Body) -> Any:
    if not _has_many_digits(body):
        return orjson.loads(body)
    data = bytes(body)
    if not _LONG_NUMBER.search(data):
        return orjson.loads(data)
    # The standard library reads long integers exactly but accepts invalid JSON (NaN, lone surrogates). So orjson checks
    # the text first, with a decimal point in each long number, which leaves all byte offsets unchanged.
    orjson.loads(_LONG_NUMBER.sub(_with_point, data))
    return json.loads(data)


def _has_many_digits(body: Body) -> bool:
    if len(body) <= _STEP_BYTES:
        return bytes(body).translate(_ALL_DIGITS_ZERO).find(b"0" * _MANY_DIGITS) >= 0
    overlap = _MANY_DIGITS - 1
    return any(
        _has_many_digits(body[start : start + _STEP_BYTES]) for start in range(0, len(body), _STEP_BYTES - overlap)
    )


def _with_point(match: re.Match[bytes]) -> bytes:
    # After the 15th digit, to leave intact an escape such as \u0041 whose digits begin the match.
    digits = match[0]
    return digits[:15] + b"." + digits[16:]


def _raise_malformed(body: Body, error: orjson.JSONDecodeError) -> NoReturn:
    try:
        bytes(body).decode("utf-8")
    except UnicodeDecodeError as wrong:
        raise _malformed_json("the text is not valid UTF-8", wrong.start) from None
    position = len(error.doc[: error.pos].encode("utf-8"))
    raise _malformed_json(shortened(error.msg, _MAX_DETAIL_LENGTH), position) from None


def _malformed_json(problem: str, position: int) -> Fault:
    return _invalid_json(f"Malformed JSON at byte {position:,}: {problem}", position)


def _invalid_json(problem: str, position: int) -> Fault:
    return Fault(
        Reason.INVALID_JSON,
        detail=f'{problem}. Send the arguments as the members of one JSON object, such as {{"limit": 30}}.',
        position=position,
    )
