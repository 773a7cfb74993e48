"""Converts the parts of a form to arguments, by the type hints of the parameters.

| the parameter takes | a part becomes |
| --- | --- |
| bytes | its bytes |
| a `memoryview` | a view of its bytes |
| an array | the array of an .npy file, or a JSON value |
| text, or a type that JSON writes as text, such as a date | its text |
| anything else | a JSON value if it is JSON, else its text |

A parameter for a list takes several parts of one name, or one JSON list.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import PurePath
from typing import Any, Final

import orjson

from offload.tasks.arguments.errors import ArgumentError, repeated
from offload.tasks.arguments.form_parts import Part
from offload.tasks.arguments.json_text import Body, RepeatedMembers, read_json
from offload.tasks.arrays import NPY_MAGIC, is_array_hint, read_npy
from offload.tasks.definition.parameters import Parameters, alternatives, takes_several
from offload.tasks.faults import pointer_to

Convert = Callable[[Part], Any]
Schema = Mapping[str, Any]

# Charsets in use, and Python's names for them. Python's own table also has codecs that do not read text.
_CHARSETS: Final[Mapping[str, str]] = {
    "": "utf-8",
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "latin-1",
    "latin-1": "latin-1",
    "latin1": "latin-1",
    "windows-1252": "cp1252",
    "utf-16": "utf-16",
}


class FormArguments:
    """Reads the forms of one task.

    `names` are the names that callers use, by those of the parameters; `schema` is the JSON Schema of the arguments;
    `read` reads JSON.
    """

    def __init__(
        self, parameters: Parameters, names: Mapping[str, str], schema: Schema, read: Callable[[Body], Any]
    ) -> None:
        definitions = schema.get("$defs", {})
        value = partial(_value, read)
        properties = schema.get("properties", {})
        self._arguments = {
            names[one.name]: _Argument(one.hint, properties.get(names[one.name], {}), definitions, value)
            for one in parameters.named
        }
        more = schema.get("additionalProperties")
        self._other = _Argument(
            parameters.extra_hint or Any, more if isinstance(more, dict) else {}, definitions, value
        )

    def read(self, parts: Iterable[Part]) -> tuple[dict[str, Any], dict[str, list[ArgumentError]]]:
        """Returns the members, and the errors by name of those that cannot be read."""
        members: dict[str, Any] = {}
        errors: dict[str, list[ArgumentError]] = {}
        given: dict[str, list[Part]] = {}
        for part in parts:
            given.setdefault(part.name, []).append(part)
        for name, several in given.items():
            try:
                members[name] = self._arguments.get(name, self._other).read(several)
            except RepeatedMembers as error:
                errors[name] = [repeated((name, *path)) for path in error.paths]
            except RecursionError:
                errors[name] = [ArgumentError(pointer_to(name), "The JSON value is nested too deeply")]
            except ValueError as error:
                errors[name] = [ArgumentError(pointer_to(name), str(error))]
        return members, errors


class _Argument:
    """How to read one argument."""

    def __init__(self, hint: Any, schema: Schema, definitions: Schema, value: Convert) -> None:
        self._value = value
        self._convert = _converter(hint, schema, definitions, value)
        self._is_list = takes_several(hint)
        self._takes_several = self._is_list or hint is Any or hint is object
        self._takes_other = len(list(alternatives(hint))) > 1
        self._items = [
            _converter(item, item_schema, definitions, value)
            for item, item_schema in _items(hint, _resolved(schema, definitions), definitions)
        ]

    def read(self, parts: list[Part]) -> Any:
        """Raises ValueError with a message for the caller, or RepeatedMembers."""
        if len(parts) > 1:
            if not self._takes_several:
                raise ValueError(f"This field occurs {len(parts)} times, but the argument is not a list. Send it once")
            return [self._item(index)(part) for index, part in enumerate(parts)]
        (part,) = parts
        if not self._is_list or self._convert is _text:
            return self._convert(part)
        if self._item(0) in _BINARY:
            return [self._item(0)(part)]
        value = self._value(part)
        if isinstance(value, list) or (self._takes_other and not isinstance(value, (str, int, float))):
            return value
        return [self._item(0)(part)]

    def _item(self, index: int) -> Convert:
        return self._items[min(index, len(self._items) - 1)]


def _items(hint: Any, schema: Schema, definitions: Schema) -> list[tuple[Any, Schema]]:
    """Returns type hint and schema of the items of a list; the last one is that of all further items."""
    lists = [part for part in map(_with_items, [schema, *schema.get("anyOf", ())]) if part]
    schemas = lists[0] if lists else [{}]
    schemas = [_resolved(one, definitions) for one in schemas]
    hints = next((typing.get_args(part) for part in alternatives(hint) if takes_several(part)), ())
    hints = tuple(one for one in hints if one is not Ellipsis) or (Any,)
    count = max(len(schemas), len(hints))
    return [(hints[min(index, len(hints) - 1)], schemas[min(index, len(schemas) - 1)]) for index in range(count)]


def _with_items(schema: Schema) -> list[Schema]:
    items = schema.get("prefixItems") or [schema.get("items", {})]
    return list(items) if schema.get("type") == "array" else []


def _resolved(schema: Any, definitions: Schema) -> Schema:
    reference = schema.get("$ref", "") if isinstance(schema, dict) else ""
    if reference:
        return _resolved(definitions.get(reference.rpartition("/")[2], {}), definitions)
    return schema if isinstance(schema, dict) else {}


def _converter(hint: Any, schema: Schema, definitions: Schema, value: Convert) -> Convert:
    kinds = [kind for kind in alternatives(hint) if kind is not types.NoneType]
    if memoryview in kinds:
        return _view
    if any(map(is_array_hint, kinds)):
        return _array
    if bytes in kinds:
        return _bytes_or_text if str in kinds else _bytes
    if not _is_text(schema, definitions):
        return value
    return _path if any(isinstance(kind, type) and issubclass(kind, PurePath) for kind in kinds) else _text


def _is_text(schema: Any, definitions: Schema) -> bool:
    """Returns whether the schema allows text."""
    schema = _resolved(schema, definitions)
    for name in ("anyOf", "oneOf"):
        if name in schema:
            return any(_is_text(part, definitions) for part in schema[name])
    if "enum" in schema:
        return all(isinstance(value, str) for value in schema["enum"])
    return schema.get("type") == "string" or isinstance(schema.get("const"), str)


def _view(part: Part) -> memoryview:
    return part.content


def _bytes(part: Part) -> bytes:
    return bytes(part.content)


def _bytes_or_text(part: Part) -> bytes | str:
    return bytes(part.content) if part.is_file else _text(part)


def _array(part: Part) -> Any:
    if bytes(part.content[: len(NPY_MAGIC)]) == NPY_MAGIC:
        return read_npy(part.content)
    try:
        return read_json(part.content)
    except orjson.JSONDecodeError:
        raise ValueError("Input should be an .npy file, or JSON lists of numbers") from None


def _text(part: Part) -> str:
    charset = _CHARSETS.get(part.charset.strip().lower())
    if charset is None:
        raise ValueError("The charset of this field is not supported. Send UTF-8")
    try:
        return str(part.content, charset)
    except UnicodeDecodeError:
        what = "file" if part.is_file else "field"
        raise ValueError(f"This {what} is not valid {charset} text, which the argument takes") from None


def _path(part: Part) -> str:
    if part.is_file:
        raise ValueError("The argument is the path of a file, not its content")
    return _text(part)


def _value(read: Callable[[Body], Any], part: Part) -> Any:
    text = _text(part)
    try:
        return read(text.encode())
    except orjson.JSONDecodeError:
        return text


_BINARY: Final = (_view, _bytes, _bytes_or_text, _array)
