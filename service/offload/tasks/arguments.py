"""From the bytes of a request to the members that are its arguments.

Lives here: parsing of JSON bodies and query strings, the form of the faults found in them, and the check of names for
tasks without type hints.  Types are `validation`'s business; no pydantic here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple, NoReturn
from urllib.parse import parse_qsl

import orjson

from offload.core.job import Reason
from offload.tasks.faults import Fault, shortened
from offload.tasks.parameters import Parameters

Body = bytes | bytearray | memoryview

MAX_ERRORS: Final = 100
_MAX_DETAIL_LENGTH: Final = 300
_MAX_KNOWN_NAMES: Final = 20
_MAX_QUERY_FIELDS: Final = 1_000

# Of a large body so much at a time is looked at in a copy.
_STEP_BYTES: Final = 1 << 20
# The shortest number of digits that may not fit into 64 bits; orjson makes floating point of such whole numbers.
_MANY_DIGITS: Final = 19
_ALL_DIGITS_ZERO: Final = bytes.maketrans(b"0123456789", b"0" * 10)
# Digits that may be a whole number: those behind a point or in an exponent are not.
_LONG_NUMBER: Final = re.compile(rb"(?<![.0-9eE])(?<![eE][+-])[0-9]{%d,}(?![0-9.eE])" % _MANY_DIGITS)


class ArgumentError(NamedTuple):
    """One of the errors of an `invalid-arguments` fault; `pointer` is a JSON pointer (RFC 6901) into the arguments."""

    pointer: str
    detail: str


def invalid_arguments(errors: Sequence[ArgumentError], *, left_out: int = 0) -> Fault:
    """The fault with at most 100 of `errors`; one more says how many there are beside, `left_out` included."""
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
    """The JSON pointer of a member; RFC 6901, section 3, has the two escapes."""
    return "".join("/" + str(segment).replace("~", "~0").replace("/", "~1") for segment in segments)


def missing(name: str) -> ArgumentError:
    return ArgumentError(pointer_to(name), "This argument is required")


def unknown(name: str, known: Collection[str]) -> ArgumentError:
    names = ", ".join(sorted(known)[:_MAX_KNOWN_NAMES])
    more = ", …" if len(known) > _MAX_KNOWN_NAMES else ""
    detail = f"Unknown argument. Known arguments: {names}{more}" if known else "The task takes no arguments"
    return ArgumentError(pointer_to(name), detail)


def parse_object(body: Body) -> dict[str, Any]:
    """The members of the JSON object in `body`; none at all in an empty one.

    Whole numbers arrive whole, whatever their length.  Of members with the same name the last counts.  Raises Fault
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
    except ValueError as error:  # the interpreter's limit on the digits of a number, where nobody has lifted it
        raise _invalid_json(f"The JSON body cannot be read: {shortened(str(error), _MAX_DETAIL_LENGTH)}", 0) from None
    if not isinstance(value, dict):
        raise _invalid_json("The JSON body is not an object", 0)
    return value


def parse_query(query: str, several: Collection[str]) -> dict[str, Any]:
    """The fields of a query string as text; those in `several`, and those given repeatedly, as lists."""
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
    """Checks arguments of a task without type hints: their names, nothing else."""

    def __init__(self, parameters: Parameters) -> None:
        self._known = frozenset(parameter.name for parameter in parameters.named)
        self._required = {parameter.name: None for parameter in parameters.named if parameter.is_required}
        self._takes_more = parameters.extra_hint is not None

    def validate(self, members: dict[str, Any]) -> dict[str, Any]:
        """The arguments themselves.  Raises Fault `invalid-arguments`."""
        given = members.keys()
        if given >= self._required.keys() and (self._takes_more or given <= self._known):
            return members
        errors = [missing(name) for name in self._required if name not in members]
        if not self._takes_more:
            errors += [unknown(name, self._known) for name in members if name not in self._known]
        raise invalid_arguments(errors)

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the arguments."""
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
    # The standard library keeps whole numbers whole, but takes things that are no JSON (NaN, half of a surrogate pair).
    # So orjson judges the text, with a point put into the long numbers, which keeps every byte where it was.
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
    # Behind the 15th digit: far enough from the beginning to leave an escape like \u0041 before it intact.
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
