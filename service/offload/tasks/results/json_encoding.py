"""Encodes a value as JSON: exactly, or not at all.

The first pass is one call of orjson. Values that orjson does not know get their form from `json_forms`. A second,
careful pass in Python follows if the first fails, or may have encoded infinity as null: it writes what orjson cannot
(integers over 64 bits, keys that are not text, iterators), and finds the path to a value that has no JSON form.
"""

from __future__ import annotations

import marshal
import math
import struct
from collections.abc import Collection, Iterator
from enum import Enum
from itertools import islice
from types import NoneType
from typing import Any, Final

import orjson
from pydantic_core import PydanticSerializationError, to_json

from offload.tasks.arrays import is_array
from offload.tasks.faults import exception_message, exception_name, full_type_name, shortened
from offload.tasks.results.array_forms import INFINITE, REPLACE_INFINITE, Stream, array_for_orjson
from offload.tasks.results.json_forms import FORMS, form_of
from offload.tasks.results.model_forms import MAX_DEPTH, GuessedModel, UnreadModel, members_of_model
from offload.tasks.results.remedies import GENERAL_REMEDY, NoJsonForm

# A frame between the processes may have twice this size.
MAX_RESULT_BYTES: Final = 1 << 30

# Without these options orjson would leave out fields whose names begin with `_`, and round time zones to minutes.
_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_ATOMS: Final = frozenset((str, int, float, bool, NoneType))
_INFINITY: Final = struct.pack("<cd", b"g", math.inf)
_MINUS_INFINITY: Final = struct.pack("<cd", b"g", -math.inf)
_COMMON: Final = _ATOMS | {dict, list, tuple}
_MAX_STEPS: Final = 100
_CHUNK: Final = 1_000
_MAX_KEY_LENGTH: Final = 100
_MAX_PROBLEM_LENGTH: Final = 300
_NOT_UNICODE: Final = "has a lone surrogate, which is not valid Unicode"
_REPAIR_TEXT: Final = "Replace it, for example with text.encode('utf-8', 'replace').decode()"


def json_bytes(value: object) -> bytes:
    """Returns `value` as JSON. Raises NoJsonForm with the path to the value that has none."""
    if type(value) not in _COMMON and is_array(value):
        items = array_for_orjson(value)  # type: ignore[arg-type]  # is_array
        if items is not None:
            return orjson.dumps(items, option=orjson.OPT_SERIALIZE_NUMPY)
    try:
        encoded = orjson.dumps(value, _checked_form, _OPTIONS)
    except orjson.JSONEncodeError:
        return _carefully(value)
    # The search for one letter is many times faster, and arrays of numbers do not have it.
    if b"n" in encoded and b"null" in encoded and _may_have_infinity(value):
        return _carefully(value)
    return encoded


def _checked_form(value: object) -> Any:
    form = FORMS[type(value)](value)
    return _checked(form) if type(form) is GuessedModel else form


def _checked(form: GuessedModel) -> orjson.Fragment:
    for path, member in form.members:
        try:
            json_bytes(member)
        except NoJsonForm as error:
            raise NoJsonForm(error.value, error.problem, error.remedy, (*path, *error.path)) from None
    return form.encoded


def _may_have_infinity(value: object) -> bool:
    """Returns whether infinity was encoded as null. True also if this is unknown."""
    try:
        # The fastest way to see all numbers: it copies them as they are in memory. NumPy's were checked before.
        dumped = marshal.dumps(value, 2)  # type: ignore[arg-type]  # any object
    except ValueError:  # a type that `marshal` does not know
        return _may_show_infinity(value)
    return _INFINITY in dumped or _MINUS_INFINITY in dumped


def _may_show_infinity(value: object) -> bool:
    try:
        return b"Infinity" in to_json(value, inf_nan_mode="constants", fallback=_without_fragments)
    except Exception:  # pydantic does not know every value that orjson does
        return True


def _without_fragments(value: object) -> Any:
    form = form_of(value)
    return None if type(form) is orjson.Fragment else form


def _carefully(value: object) -> bytes:
    writer = _CarefulWriter()
    try:
        writer.write(value)
    except NoJsonForm as error:
        raise NoJsonForm(error.value, error.problem, error.remedy, (*writer.path, *error.path)) from None
    except BaseException as error:  # the value's own methods may raise anything
        raise NoJsonForm(
            writer.value, f"cannot be encoded ({_describe(error)})", GENERAL_REMEDY, tuple(writer.path)
        ) from None
    return writer.encoded()


class _CarefulWriter:
    """Writes one value. After an exception, `path` leads to `value`, at which it was raised."""

    def __init__(self) -> None:
        self.path: list[str | int] = []
        self.value: object = None
        self._parts: list[bytes] = []
        self._size = 0
        self._open: set[int] = set()
        self._read: dict[int, object] = {}  # one-shot iterators; kept, so that no other object gets the same id

    def encoded(self) -> bytes:
        return b"".join(self._parts)

    def write(self, value: object) -> None:
        self.value = value
        form = self._form(value)
        kind = type(form)
        if kind in _ATOMS:
            self._add(_atom(form))
            return
        if kind is orjson.Fragment:
            self._add(orjson.dumps(form))
            return
        self._open_nested(value)
        self._add(b"{" if kind is dict else b"[")
        if kind is dict:
            self._write_members(_named(form))
        elif kind is Stream:
            self._write_stream(form.items)
        else:
            self._write_items(form, 0)
        self._add(b"}" if kind is dict else b"]")
        self._open.discard(id(value))

    def _form(self, value: object) -> Any:
        try:
            form = _simplest(value)
            if type(form) is not UnreadModel:
                return form
            for iterator in form.iterators:
                self._read_once(iterator)
            encoded = form.encode()
            return _checked(encoded) if type(encoded) is GuessedModel else encoded
        except NoJsonForm:
            raise
        except Exception:
            outer = len(self.path)
            for path, member in members_of_model(value):
                self.path += path
                self.write(member)
                del self.path[outer:]
            self.value = value
            raise

    def _open_nested(self, value: object) -> None:
        if id(value) in self._open:
            raise NoJsonForm(value, "contains itself", "Leave out the reference to the outer value")
        if len(self.path) >= MAX_DEPTH:
            problem = f"is nested more than {MAX_DEPTH} levels deep, the limit"
            raise NoJsonForm(value, problem, "Return it flatter, for example as a list of rows")
        self._open.add(id(value))

    def _write_members(self, members: dict[str, Any]) -> None:
        text = _together(members, members.values())
        if text is not None:
            self._add(text)
            return
        for number, (name, value) in enumerate(members.items()):
            try:
                key = orjson.dumps(name)
            except orjson.JSONEncodeError:
                raise NoJsonForm(members, f"has a key that {_NOT_UNICODE}", _REPAIR_TEXT) from None
            self._add(b"," if number else b"", key, b":")
            self.path.append(name)
            self.write(value)
            self.path.pop()

    def _write_items(self, items: list[Any] | tuple[Any, ...], start: int) -> None:
        """Write items, of which the first has the index `start` in its list."""
        if start and items:
            self._add(b",")
        text = _together(items, items)
        if text is not None:
            self._add(text)
            return
        for index, value in enumerate(items, start):
            if index > start:
                self._add(b",")
            self.path.append(index)
            self.write(value)
            self.path.pop()

    def _write_stream(self, items: Iterator[Any]) -> None:
        self._read_once(items)
        start = 0
        while chunk := self._next_items(items):
            self._write_items(chunk, start)
            start += len(chunk)

    def _read_once(self, items: object) -> None:
        if id(items) in self._read:
            raise NoJsonForm(items, "occurs twice, but can be read only once", "Return list(value)")
        self._read[id(items)] = items

    def _next_items(self, items: Iterator[Any]) -> list[Any]:
        try:
            return list(islice(items, _CHUNK))
        except BaseException as error:  # what the user's code raises while it is read
            problem = f"raised {_describe(error)}"
            raise NoJsonForm(items, problem, "Read it into a list within the task") from None

    def _add(self, *parts: bytes) -> None:
        self._parts += parts
        self._size += sum(map(len, parts))
        if self._size > MAX_RESULT_BYTES:
            problem = f"makes the result larger than {MAX_RESULT_BYTES:,} bytes, the limit"
            raise NoJsonForm(self.value, problem, "Return less data")


def _simplest(value: object) -> Any:
    """Returns what is written for `value`: an atom, a list or tuple, a dict, a Stream or a Fragment."""
    for _ in range(_MAX_STEPS):
        kind = type(value)
        if kind in _ATOMS or kind in _WRITTEN:
            return value
        if issubclass(kind, Enum):
            value = value.value  # type: ignore[attr-defined]  # an enum
        elif issubclass(kind, str):
            value = str.__str__(value)
        elif issubclass(kind, int):
            value = int.__index__(value)  # type: ignore[arg-type]  # an int
        elif issubclass(kind, dict):
            value = dict(dict.items(value))  # type: ignore[arg-type]  # a dict
        elif issubclass(kind, list):
            value = list(list.__iter__(value))  # type: ignore[arg-type]  # a list
        else:
            value = _checked_form(value)
    raise NoJsonForm(value, "stands for other values without end")


_WRITTEN: Final = frozenset((list, tuple, dict, Stream, UnreadModel, orjson.Fragment))


def _together(container: Any, values: Collection[Any]) -> bytes | None:
    """Returns the JSON of all members or items without the brackets, or None if they are to be written one by one."""
    kinds = set(map(type, values))
    if not kinds <= _ATOMS or (float in kinds and (math.inf in values or -math.inf in values)):
        return None
    try:
        return orjson.dumps(container)[1:-1]
    except orjson.JSONEncodeError:
        return ",".join(map(int.__repr__, values)).encode() if kinds == {int} and type(container) is not dict else None


def _atom(value: Any) -> bytes:
    if type(value) is float and math.isinf(value):
        raise NoJsonForm(value, INFINITE, REPLACE_INFINITE)
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        if type(value) is int:
            return int.__repr__(value).encode()
        raise NoJsonForm(value, _NOT_UNICODE, _REPAIR_TEXT) from None


def _named(members: dict[Any, Any]) -> dict[str, Any]:
    """Returns `members` with their keys as text. Raises NoJsonForm if two keys become the same text."""
    kinds = set(map(type, members))
    if kinds <= {str}:
        return members
    if kinds == {int}:
        return dict(zip(map(int.__repr__, members), members.values(), strict=True))
    named: dict[str, Any] = {}
    for key, value in members.items():
        name = _name(key)
        if name is None:
            problem = f"has a key of type {full_type_name(key)}, but keys are text in JSON"
            raise NoJsonForm(members, problem, "Write the keys as text, for example ','.join(key) for tuples of text")
        if name in named:
            problem = f"has two keys that are both {shortened(name, _MAX_KEY_LENGTH)!r} in JSON"
            raise NoJsonForm(members, problem, "Give all keys the same type, for example str")
        named[name] = value
    return named


def _name(key: object) -> str | None:
    """Returns the text of a key, or None if it has none. Null, booleans and numbers are written as in JSON."""
    try:
        form = _simplest(key)
        if type(form) is str:
            return form
        if form is None or (type(form) is float and math.isnan(form)):
            return "null"
        return _atom(form).decode() if type(form) in _ATOMS else None
    except NoJsonForm:
        return None


def _describe(error: BaseException) -> str:
    message = shortened(exception_message(error), _MAX_PROBLEM_LENGTH)
    if isinstance(error, PydanticSerializationError):
        return message.removeprefix("Error serializing to JSON: ")
    return f"{exception_name(error)}: {message}"
