"""Returns the JSON form of values that JSON does not have: dates, sets, dataclasses, models, arrays.

A form is one step: its parts may need forms themselves. Which form a value has depends on its type alone. Types are
read with `type()`, because `__class__` can lie.
"""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections import deque
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, Sequence, Set, ValuesView
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import orjson
from pydantic_core import MultiHostUrl, Url

from offload.tasks.response import Response
from offload.tasks.results.array_forms import (
    INFINITE,
    REPLACE_INFINITE,
    Stream,
    array_form,
    scalar_form,
    scalar_form_for,
)
from offload.tasks.results.model_forms import is_model, model_form
from offload.tasks.results.remedies import NoJsonForm, attribute_names, is_file, is_from_library, type_names
from offload.tasks.results.time_text import timedelta_text

Form = Callable[[Any], Any]

_MAX_KNOWN_TYPES: Final = 1_000


class _Forms(dict[type, Form]):
    """The function that makes the form of values of a type, found when a type is first seen."""

    def __missing__(self, kind: type) -> Form:
        if len(self) >= _MAX_KNOWN_TYPES:
            self.clear()
        self[kind] = form = self._found(kind)
        return form

    def _found(self, kind: type) -> Form:
        for find in (_numpy_form, _model_form, _named_form, _standard_form, _collection_form):
            form = find(kind)
            if form is not None:
                return form
        return _no_form


FORMS: Final = _Forms()


def form_of(value: object) -> Any:
    """Returns what stands for `value`: values that JSON has or that have a form, `orjson.Fragment`, `Stream` or
    `GuessedModel`.

    Raises NoJsonForm, and whatever the value's own methods raise.
    """
    return FORMS[type(value)](value)


def _no_form(value: object) -> Any:
    raise NoJsonForm(value)


def _numpy_form(kind: type) -> Form | None:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if issubclass(kind, numpy.ndarray):
        return array_form
    return scalar_form_for(kind) if issubclass(kind, numpy.generic) else None


def _model_form(kind: type) -> Form | None:
    """Pydantic's models and dataclasses follow pydantic's rules; other dataclasses have all their fields."""
    if issubclass(kind, Response):
        return _no_form
    if is_model(kind) or issubclass(kind, (Url, MultiHostUrl)):
        return model_form(kind, _for_pydantic)
    if "__dataclass_fields__" in attribute_names(kind):
        return _dataclass_form(kind)
    return None


def _dataclass_form(kind: type) -> Form:
    names = {field.name: None for field in dataclasses.fields(kind)}.keys()

    def form(value: object) -> dict[str, Any]:
        attributes: dict[str, Any] | None = getattr(value, "__dict__", None)
        if attributes is not None and attributes.keys() == names:
            return attributes
        return {name: getattr(value, name) for name in names}

    return form


def _for_pydantic(value: object) -> Any:
    """Returns the form of a value that pydantic does not know, in terms that it does."""
    form = form_of(value)
    if type(form) is orjson.Fragment:
        return orjson.loads(orjson.dumps(form))
    return form.items if type(form) is Stream else form


def _named_form(kind: type) -> Form | None:
    return next((_BY_NAME[name] for name in type_names(kind) if name in _BY_NAME), None)


def _array(value: Any) -> list[Any]:
    items = list(value)
    for index, item in enumerate(items if value.typecode in "fd" else ()):
        if math.isinf(item):
            raise NoJsonForm(item, INFINITE, REPLACE_INFINITE, (index,))
    return items


def _pandas_timestamp(value: Any) -> str:
    if not datetime.min.year <= value.year <= datetime.max.year:
        raise NoJsonForm(value, "is a date outside the years 1 to 9999", "Return str(value), or None if it is missing")
    text: str = value.isoformat()  # with nanoseconds, unlike datetime's
    return text


# Types of modules that are not imported here.
_BY_NAME: Final[Mapping[str, Form]] = {
    "pandas.NaTType": lambda value: None,
    "pandas.NAType": lambda value: None,
    "pandas.Timestamp": _pandas_timestamp,
    "pandas.Timedelta": lambda value: scalar_form(value.to_timedelta64()),
    "pathlib.PurePath": str,
    "ipaddress._IPAddressBase": str,
    "array.array": _array,
    "collections.UserString": str,
}


def _standard_form(kind: type) -> Form | None:
    for kinds, form in _STANDARD:
        if issubclass(kind, kinds):
            return form
    return None


def _float(value: float) -> float:
    number = float.__float__(value)
    if math.isinf(number):
        raise NoJsonForm(value, INFINITE, REPLACE_INFINITE)
    return number


def _decimal(value: Decimal) -> str | None:
    if value.is_nan():
        return None
    if value.is_infinite():
        raise NoJsonForm(value, INFINITE, REPLACE_INFINITE)
    return str(value)


def _pattern(value: re.Pattern[Any]) -> Any:
    return value.pattern


# The base's own methods: a subclass may override them.
_STANDARD: Final[tuple[tuple[type | tuple[type, ...], Form], ...]] = (
    (float, _float),
    (datetime, datetime.isoformat),
    (date, date.isoformat),
    (time, time.isoformat),
    (timedelta, timedelta_text),
    (Decimal, _decimal),
    (UUID, str),
    (re.Pattern, _pattern),
    ((bytes, bytearray, memoryview, complex), _no_form),
    ((tuple, set, frozenset, deque, KeysView, ValuesView, ItemsView), list),
)


def _collection_form(kind: type) -> Form | None:
    if is_from_library(kind):
        return None
    if issubclass(kind, Mapping):
        return _mapping
    if issubclass(kind, Iterator):
        return _iterator
    if issubclass(kind, (Sequence, Set)):
        return lambda value: Stream(iter(value))
    return None


def _mapping(value: Mapping[Any, Any]) -> dict[Any, Any]:
    return dict(value.items())


def _iterator(value: Iterator[Any]) -> Stream:
    if is_file(value):
        raise NoJsonForm(value)
    return Stream(value)
