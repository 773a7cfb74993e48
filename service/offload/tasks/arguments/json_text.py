"""Reads JSON exactly: integers keep their value at any length, and a repeated member is an error.

orjson reads long integers as floating point, and the last of several members with one name wins. Both would give a
wrong answer without an error.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from typing import Any, Final

import orjson

Body = bytes | bytearray | memoryview
Path = tuple[str | int, ...]

# A large body is scanned in copies of this size.
_STEP_BYTES: Final = 1 << 20
# The smallest number of digits that may exceed 64 bits; orjson reads such integers as floating point.
_MANY_DIGITS: Final = 19
_ALL_DIGITS_ZERO: Final = bytes.maketrans(b"0123456789", b"0" * 10)
# Digits that may be an integer: not after a decimal point or in an exponent.
_LONG_NUMBER: Final = re.compile(rb"(?<![.0-9eE])(?<![eE][+-])[0-9]{%d,}(?![0-9.eE])" % _MANY_DIGITS)
# More digits than floating point always keeps, and perhaps a decimal point.
_LONG_FRACTION: Final = re.compile(rb"[0-9.]{16,}")
_ESCAPED_COLON: Final = re.compile(rb"\\u003[aA]")
_MAX_REPEATED: Final = 10_000


class RepeatedMembers(ValueError):
    """Objects in which a name occurs more than once; `paths` lead to the repeated members, 10,000 at most."""

    def __init__(self, paths: list[Path]) -> None:
        super().__init__(paths)
        self.paths = paths


def read_json(body: Body) -> Any:
    """Returns the value of a JSON text.

    Raises RepeatedMembers, orjson.JSONDecodeError for malformed text, RecursionError for text that is nested too
    deeply, and ValueError for an integer with more digits than the interpreter's limit, which workers lift.
    """
    data = body if type(body) is bytes or len(body) > _STEP_BYTES else bytes(body)
    value = orjson.loads(data) if len(data) < _MANY_DIGITS or not _has_many_digits(data) else _parse_long_numbers(data)
    colons = data.count(b":") if type(data) is bytes else sum(piece.count(b":") for piece in _pieces(data))
    # One member has one colon. Further ones are in nested objects, in text, or in members that were dropped.
    if colons and (type(value) is not dict or colons != len(value)) and _has_lost_colons(data, value, colons):
        _check_repeated(bytes(data))
    return value


def read_json_with_decimals(body: Body) -> Any:
    """Returns the same as `read_json`, but a Decimal for each number that loses digits as floating point."""
    value = read_json(body)
    data = bytes(body)
    return json.loads(data, parse_float=_exact) if _LONG_FRACTION.search(data) else value


def _exact(text: str) -> float | Decimal:
    number, exact = float(text), Decimal(text)
    return number if Decimal(repr(number)) == exact else exact


def _parse_long_numbers(body: Body) -> Any:
    data = bytes(body)
    if not _LONG_NUMBER.search(data):
        return orjson.loads(data)
    # The standard library reads long integers exactly but accepts invalid JSON (NaN, lone surrogates). So orjson checks
    # the text first, with a decimal point in each long number, which leaves all byte offsets unchanged.
    orjson.loads(_LONG_NUMBER.sub(_with_point, data))
    return json.loads(data)


def _has_many_digits(body: Body) -> bool:
    if isinstance(body, bytes):
        return body.translate(_ALL_DIGITS_ZERO).find(b"0" * _MANY_DIGITS) >= 0
    return any(map(_has_many_digits, _pieces(body, overlap=_MANY_DIGITS - 1)))


def _pieces(body: Body, *, overlap: int = 0) -> Iterator[bytes]:
    for start in range(0, len(body), _STEP_BYTES - overlap):
        yield bytes(body[start : start + _STEP_BYTES])


def _with_point(match: re.Match[bytes]) -> bytes:
    # After the 15th digit, to leave intact an escape such as \u0041 whose digits begin the match.
    digits = match[0]
    return digits[:15] + b"." + digits[16:]


def _has_lost_colons(body: Body, value: Any, colons: int) -> bool:
    """Returns whether the text has more colons than the value that was read from it.

    They belong to members that a later one of the same name replaced. Escaped colons count, also a backslash before
    `u003a`, which stands for itself. So the number may be too high, but never too low: False is certain.
    """
    if not isinstance(body, bytes):
        body = bytes(body)
    try:
        kept = orjson.dumps(value).count(b":")
    except TypeError:  # long integers, or nested more deeply than orjson writes
        kept = _colons_in(value)
    return kept != colons + len(_ESCAPED_COLON.findall(body))


def _colons_in(value: Any) -> int:
    """Returns the number of members and of colons in text."""
    count, rest = 0, [value]
    while rest:
        item = rest.pop()
        if isinstance(item, dict):
            count += len(item)
            rest.extend(item.keys())
            rest.extend(item.values())
        elif isinstance(item, list):
            rest.extend(item)
        elif isinstance(item, str):
            count += item.count(":")
    return count


class _Members(dict[str, Any]):
    """An object of a JSON text, with the names that it has more than once."""

    repeated: frozenset[str] = frozenset()


def _with_repeated(pairs: list[tuple[str, Any]]) -> _Members:
    members = _Members(pairs)
    if len(members) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        members.repeated = frozenset(name for name, count in counts.items() if count > 1)
    return members


def _check_repeated(data: bytes) -> None:
    found = json.loads(data, object_pairs_hook=_with_repeated)
    paths = list(islice(_repeated_paths(found), _MAX_REPEATED))
    if paths:
        raise RepeatedMembers(paths)


def _repeated_paths(value: Any) -> Iterator[Path]:
    rest: list[tuple[Path, Any]] = [((), value)]
    while rest:
        path, item = rest.pop()
        if isinstance(item, _Members):
            for name in sorted(item.repeated):
                yield (*path, name)
            rest.extend(((*path, name), member) for name, member in item.items())
        elif isinstance(item, list):
            rest.extend(((*path, index), member) for index, member in enumerate(item))
