"""Encodes pydantic's models and dataclasses as pydantic does, and finds what pydantic would write wrongly.

Fields with types are written by the rules of these types. Pydantic guesses how to write a field of type `Any` or of an
arbitrary class: it makes a list of lines of a file, text of a complex number. Such members must have a JSON form by the
rules of `json_forms`. Infinity in a field of floating point becomes null in pydantic; here it is an error, unless the
model says what it wants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import NoneType
from typing import Any, Final, NamedTuple

import orjson
from pydantic_core import to_json

from offload.tasks.results.array_forms import INFINITE, REPLACE_INFINITE
from offload.tasks.results.remedies import NoJsonForm, Path, attribute_names

# orjson's limit, for other values than models too.
MAX_DEPTH: Final = 254
_MAX_KNOWN_MODELS: Final = 1_000
_FIELDS: Final = ("model-fields", "dataclass-args")
_GUESSED: Final = ("any", "is-instance")
_FLOAT: Final = ("float",)
_GENERATOR: Final = ("generator",)
_REFERENCE: Final = ("definition-ref",)
_TEXT_AND_NUMBERS: Final = frozenset((str, int, float, bool, NoneType))
# What a schema holds besides schemas.
_NO_SCHEMAS: Final = ("default", "metadata", "config")


class GuessedModel(NamedTuple):
    """An encoded model with the members that pydantic guessed, and the path to each."""

    encoded: orjson.Fragment
    members: list[tuple[Path, Any]]


class UnreadModel:
    """A model with iterators, which are read when `encode` is called, and cannot be read again."""

    __slots__ = ("encode", "iterators")

    def __init__(self, iterators: list[Any], encode: Callable[[], orjson.Fragment | GuessedModel]) -> None:
        self.iterators = iterators
        self.encode = encode


ModelForm = orjson.Fragment | GuessedModel | UnreadModel


def is_model(kind: type) -> bool:
    return "__pydantic_serializer__" in attribute_names(kind)


def model_form(kind: type, fallback: Callable[[Any], Any]) -> Callable[[Any], ModelForm]:
    """Returns the function that encodes models of a type; `fallback` converts values that pydantic does not know."""
    guessed = _paths(kind, _GUESSED)
    unread = {*guessed, *_paths(kind, _GENERATOR)}
    config: dict[str, Any] = getattr(kind, "model_config", None) or getattr(kind, "__pydantic_config__", None) or {}
    has_extra = config.get("extra") == "allow"
    floats = _float_paths(kind)

    def encode(model: Any) -> orjson.Fragment | GuessedModel:
        encoded = to_json(model, inf_nan_mode="null", fallback=fallback)
        if b"NaN" in encoded or b"Infinity" in encoded:
            _check_constants(model, encoded)
        if floats and b"null" in encoded:
            _check_infinity(model)
        if not guessed and not has_extra:
            return orjson.Fragment(encoded)
        members = [(path, getattr(model, name)) for name, path in guessed.items()]
        members += [((name,), member) for name, member in _extra(model).items()]
        return GuessedModel(orjson.Fragment(encoded), members)

    def form(model: Any) -> ModelForm:
        members = [getattr(model, name) for name in unread]
        iterators = list(_iterators_in([*members, *_extra(model).values()], MAX_DEPTH))
        return UnreadModel(iterators, lambda: encode(model)) if iterators else encode(model)

    return form if unread or has_extra else encode


def members_of_model(value: object) -> Iterator[tuple[Path, Any]]:
    """Yields the paths and values of a model's fields; nothing for other values."""
    kind = type(value)
    if is_model(kind):
        for name, path in _names_in_json(kind).items():
            yield path, getattr(value, name)


def _extra(model: Any) -> dict[str, Any]:
    return getattr(model, "__pydantic_extra__", None) or {}


def _iterators_in(value: Any, depth: int) -> Iterator[Any]:
    kind = type(value)
    if kind in _TEXT_AND_NUMBERS or not depth:
        return
    if kind in (list, tuple, set):
        for item in value:
            yield from _iterators_in(item, depth - 1)
    elif kind is dict:
        yield from _iterators_in(list(value.values()), depth - 1)
    elif is_model(kind):
        yield from _iterators_in([getattr(value, name) for name in _names_in_json(kind)], depth - 1)
    elif "__next__" in attribute_names(kind):
        yield value


def _check_constants(model: object, encoded: bytes) -> None:
    try:
        orjson.loads(encoded)
    except orjson.JSONDecodeError:
        problem = "is written by pydantic with NaN or Infinity, which JSON cannot express"
        raise NoJsonForm(model, problem, "Set ser_json_inf_nan to 'null' or 'strings' in its config") from None


def _check_infinity(model: object) -> None:
    for path, number in _infinite_in(model, ()):
        raise NoJsonForm(number, INFINITE, REPLACE_INFINITE, path)


def _infinite_in(value: Any, path: Path) -> Iterator[tuple[Path, float]]:
    kind = type(value)
    if kind is float:
        if math.isinf(value):
            yield path, value
    elif kind in (list, tuple):
        for index, item in enumerate(value):
            yield from _infinite_in(item, (*path, index))
    elif kind is dict:
        for key, item in value.items():
            yield from _infinite_in(item, (*path, str(key)))
    elif is_model(kind):
        for name, name_path in _float_paths(kind).items():  # type: ignore[arg-type]  # types are hashable
            yield from _infinite_in(getattr(value, name), (*path, *name_path))


@lru_cache(_MAX_KNOWN_MODELS)
def _float_paths(kind: type) -> dict[str, Path]:
    config: dict[str, Any] = getattr(kind, "model_config", None) or getattr(kind, "__pydantic_config__", None) or {}
    return {} if "ser_json_inf_nan" in config else _paths(kind, _FLOAT)


def _paths(kind: type, types: tuple[str, ...]) -> dict[str, Path]:
    """Returns the fields with a part of one of these types, and their paths in JSON, but not those with serialisers."""
    schema = getattr(kind, "__pydantic_core_schema__", None)
    if not isinstance(schema, dict):
        return {}
    definitions = schema.get("definitions", [])
    is_elsewhere = any(_contains(one, types) for one in definitions)
    fields = _fields(schema, {one.get("ref"): one for one in definitions})
    found = {
        name for name, field in fields if _contains(field, types) or (is_elsewhere and _contains(field, _REFERENCE))
    }
    return {name: path for name, path in _names_in_json(kind).items() if name in found}


def _names_in_json(kind: type) -> dict[str, Path]:
    fields: dict[str, Any] = getattr(kind, "__pydantic_fields__", {})
    if getattr(kind, "__pydantic_root_model__", False):
        return dict.fromkeys(fields, ())
    return {name: (field.serialization_alias or name,) for name, field in fields.items() if not field.exclude}


def _fields(schema: dict[str, Any], definitions: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    node = schema
    while node.get("type") not in _FIELDS:
        inner = definitions.get(node["schema_ref"]) if node.get("type") in _REFERENCE else node.get("schema")
        if inner is None or "serialization" in node:
            return
        if node.get("root_model"):
            yield "root", inner
            return
        node = inner
    fields = node["fields"]
    yield from fields.items() if isinstance(fields, dict) else ((field["name"], field) for field in fields)


def _contains(node: object, types: tuple[str, ...]) -> bool:
    """Returns whether a schema has a part of one of these types that is not written by a serialiser."""
    if isinstance(node, (list, tuple)):
        return any(_contains(part, types) for part in node)
    if not isinstance(node, dict) or "serialization" in node:
        return False
    if node.get("type") in types:
        return True
    return any(_contains(part, types) for key, part in node.items() if key not in _NO_SCHEMAS)
