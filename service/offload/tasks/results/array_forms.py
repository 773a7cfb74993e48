"""Converts NumPy arrays and scalars to lists and numbers: what `.tolist()` returns, item by item, or an error.

Missing values (NaN, NaT, masked items) become None. `.tolist()` and orjson are used only where they are exact:
`.tolist()` gives integers for dates that Python cannot express, and orjson reads NaT as a date and shortens numbers of
32 bits.

NumPy is looked up in `sys.modules`, never imported.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import orjson

from offload.tasks.results.remedies import BYTES_REMEDY, NoJsonForm
from offload.tasks.results.time_text import SECOND_DIGITS, duration_text, instant_text

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_NOT_A_TIME: Final = -(1 << 63)
_MAX_COUNT: Final = (1 << 63) - 1
_FLOAT_BYTES: Final = 8
_GENERIC: Final = "generic"

# Seconds from 1970 to the beginning of the year 1, and to two days before the end of the year 9999: orjson rejects what
# is later in one of the time zones. Then the first and last counts of the units that orjson writes as a time.
_FIRST_S: Final = -62_135_596_800
_LAST_S: Final = 253_402_300_799 - 2 * 86_400
_PLAIN_TIMES: Final = {
    "h": (_FIRST_S // 3600, _LAST_S // 3600),
    "m": (_FIRST_S // 60, _LAST_S // 60),
    "s": (_FIRST_S, _LAST_S),
    "ms": (_FIRST_S * 10**3, _LAST_S * 10**3),
    "us": (_FIRST_S * 10**6, _LAST_S * 10**6),
    "ns": (_NOT_A_TIME + 1, _MAX_COUNT),
}

_SCALAR_REMEDIES: Final = {
    "c": "Return its parts: [value.real, value.imag]",
    "S": BYTES_REMEDY,
    "V": BYTES_REMEDY,
}
_OUT_OF_RANGE: Final = "has a date outside the years 1 to 9999"
_NO_UNIT: Final = "counts time in no unit"
INFINITE: Final = "is infinite, which JSON cannot express"
REPLACE_INFINITE: Final = "Replace it with a number, text or None"


class Stream:
    """Items that the first, fast pass of the encoding must not touch, such as those of an iterator."""

    __slots__ = ("items",)

    def __init__(self, items: Iterator[Any]) -> None:
        self.items = items


def array_for_orjson(array: Array) -> Array | None:
    """Returns `array` in the form that orjson encodes as `.tolist()` does, or None if it has none.

    Raises NoJsonForm for an infinite number.
    """
    numpy = sys.modules["numpy"]
    kind = array.dtype.kind
    if kind not in "biufM" or array.dtype.itemsize > _FLOAT_BYTES or not array.ndim or not _is_plain(array):
        return None
    wanted = numpy.float64 if kind == "f" else array.dtype.newbyteorder("=")
    items: Array = numpy.ascontiguousarray(array, dtype=wanted).view(numpy.ndarray)
    if kind == "f" and (infinite := numpy.isinf(items)).any():
        raise _no_form_at(array, infinite, INFINITE, REPLACE_INFINITE)
    return items if kind != "M" or _are_plain_times(items) else None


def _are_plain_times(times: Array) -> bool:
    """Returns whether all are a time of day on a date that Python has, without digits below the microsecond."""
    unit, step = sys.modules["numpy"].datetime_data(times.dtype)
    if unit not in _PLAIN_TIMES or step != 1 or not times.size:
        return False
    counts = times.view("i8")
    first, last = _PLAIN_TIMES[unit]
    # NaT is the smallest integer.
    return bool(first <= counts.min() and counts.max() <= last and (unit != "ns" or not (counts % 1_000).any()))


def array_form(array: Array) -> Any:
    """Returns nested lists, or their encoded JSON, or one value for an array without dimensions.

    The items of arrays of Python objects, which need forms themselves, are in a Stream. Raises NoJsonForm, with the
    path to the item.
    """
    exact = array_for_orjson(array)
    if exact is not None:
        return orjson.Fragment(orjson.dumps(exact, option=orjson.OPT_SERIALIZE_NUMPY))
    numpy = sys.modules["numpy"]
    if isinstance(array, numpy.ma.MaskedArray):
        items = _nested(_masked_items(array), array)
        return _streamed(items) if array.dtype.hasobject else items
    if not _is_plain(array):
        return _streamed(array.tolist())  # the subclass says what its items are
    if array.dtype.hasobject:
        return _streamed(_nested(_items(array.view(numpy.ndarray)), array))
    return _nested(_items(array.view(numpy.ndarray)), array)


def _streamed(items: Any) -> Any:
    return Stream(iter(items)) if type(items) is list else items


def scalar_form_for(kind: type) -> Callable[[Any], Any]:
    """Returns the function that makes the number, text or None for NumPy's scalars of a type. It raises NoJsonForm."""
    numpy = sys.modules["numpy"]
    if issubclass(kind, numpy.bool_) or (issubclass(kind, numpy.integer) and not issubclass(kind, numpy.timedelta64)):
        return kind.item  # type: ignore[attr-defined,no-any-return]  # a method of all scalars
    if issubclass(kind, numpy.floating) and not issubclass(kind, numpy.longdouble):
        return _float
    return scalar_form


def scalar_form(scalar: np.generic) -> Any:
    """Returns the text, numbers or None for a scalar of any type. Raises NoJsonForm."""
    kind = scalar.dtype.kind
    if kind in _SCALAR_REMEDIES and scalar.dtype.names is None:
        raise NoJsonForm(scalar, remedy=_SCALAR_REMEDIES[kind])
    try:
        return array_form(sys.modules["numpy"].asarray(scalar))
    except NoJsonForm as error:
        raise NoJsonForm(scalar, error.problem, error.remedy, error.path) from None


def _float(scalar: np.floating[Any]) -> float:
    number = float(scalar)
    if math.isinf(number):
        raise NoJsonForm(scalar, INFINITE, REPLACE_INFINITE)
    return number


def _is_plain(array: Array) -> bool:
    """Returns whether the items of `array` are its elements: not in masked arrays, nor where a subclass decides."""
    return type(array).tolist is sys.modules["numpy"].ndarray.tolist


def _items(array: Array) -> list[Any]:
    """Returns the items as a flat list."""
    flat = array.reshape(-1)
    dtype = array.dtype
    if dtype.names is not None:
        return _records(flat, array)
    convert = _CONVERTERS.get(dtype.kind)
    if convert is None:
        if not array.size:
            return []
        raise NoJsonForm(array, f"has items of NumPy's type {dtype}, which have no JSON form", _remedy(dtype.kind))
    return convert(flat, array)


def _masked_items(array: Any) -> list[Any]:
    numpy = sys.modules["numpy"]
    if array.dtype.names is not None:
        return _records(array.reshape(-1), array)
    mask = numpy.ma.getmaskarray(array)
    data = numpy.array(array.data, subok=False)
    data[mask] = numpy.zeros(1, array.dtype)[0]  # what is masked need not be valid
    if mask.all():
        return [None] * array.size
    items = _items(data)
    return [None if is_masked else item for item, is_masked in zip(items, mask.reshape(-1).tolist(), strict=True)]


def _records(flat: Any, array: Array) -> list[Any]:
    """Returns one list of fields for each record."""
    names: tuple[str, ...] = flat.dtype.names
    if not names or not flat.size:
        return [[] for _ in range(flat.size)]
    columns = [_column(flat, name, number, array) for number, name in enumerate(names)]
    return [list(record) for record in zip(*columns, strict=True)]


def _column(flat: Any, name: str, number: int, array: Array) -> list[Any]:
    numpy = sys.modules["numpy"]
    column = flat[name]
    try:
        items = _masked_items(column) if isinstance(column, numpy.ma.MaskedArray) else _items(column)
        nested: list[Any] = _nested(items, column)
    except NoJsonForm as error:
        index, *rest = error.path or (0,)
        raise NoJsonForm(
            error.value, error.problem, error.remedy, (*_position(array, int(index)), number, *rest)
        ) from None
    return nested


def _exact(flat: Array, array: Array) -> list[Any]:
    items: list[Any] = flat.tolist()
    return items


def _floats(flat: Array, array: Array) -> list[Any]:
    numpy = sys.modules["numpy"]
    with numpy.errstate(all="ignore"):
        numbers = flat.astype(numpy.float64)
    different = (numbers != flat) & ~numpy.isnan(flat)
    if different.any():
        problem = "does not fit into a floating point number of 64 bits"
        raise _no_form_at(array, different, problem, "Round it with .astype(float), or return str(value)")
    infinite = numpy.isinf(numbers)
    if infinite.any():
        raise _no_form_at(array, infinite, INFINITE, REPLACE_INFINITE)
    return _exact(numbers, array)


def _dates(flat: Array, array: Array) -> list[Any]:
    numpy = sys.modules["numpy"]
    counts, unit = _counts(flat, array)
    if unit in SECOND_DIGITS and SECOND_DIGITS[unit] > SECOND_DIGITS["us"]:
        return [None if count == _NOT_A_TIME else instant_text(count, unit) for count in counts.tolist()]
    dates: list[Any] = counts.view(f"M8[{unit}]").tolist()
    if int in set(map(type, dates)):  # what `.tolist()` gives for a date that Python cannot express
        wrong = numpy.array([type(date) is int for date in dates])
        raise _no_form_at(array, wrong, _OUT_OF_RANGE, "Return str(value), or None for dates that are missing")
    return dates


def _durations(flat: Array, array: Array) -> list[Any]:
    counts, unit = _counts(flat, array)
    return [None if count == _NOT_A_TIME else duration_text(count, unit) for count in counts.tolist()]


def _counts(flat: Array, array: Array) -> tuple[Array, str]:
    """Returns the times as integers in a single unit, such as 10 ms as 10 of "ms", and that unit."""
    numpy = sys.modules["numpy"]
    unit, step = numpy.datetime_data(flat.dtype)
    counts = numpy.ascontiguousarray(flat, dtype=flat.dtype.newbyteorder("=")).view(numpy.int64)
    is_time = counts != _NOT_A_TIME
    if unit == _GENERIC and is_time.any():
        remedy = "Give it a unit, for example .astype('datetime64[s]') or .astype('timedelta64[s]')"
        raise _no_form_at(array, is_time, _NO_UNIT, remedy)
    if step != 1:
        limit = _MAX_COUNT // step
        too_large = is_time & ((counts > limit) | (counts < -limit))
        if too_large.any():
            raise _no_form_at(array, too_large, "does not fit into 64 bits in its own unit", "Use a larger unit")
        counts = numpy.where(is_time, counts * numpy.where(is_time, step, 1), counts)
    return counts, "s" if unit == _GENERIC else unit


_CONVERTERS: Final[dict[str, Callable[[Array, Array], list[Any]]]] = {
    **dict.fromkeys("biuUTO", _exact),
    "f": _floats,
    "M": _dates,
    "m": _durations,
}


def _remedy(kind: str) -> str:
    if kind == "c":
        return "Return its parts: [array.real.tolist(), array.imag.tolist()]"
    if kind == "S":
        return "Decode it with .astype(str), or return array.tobytes() alone"
    return "Return array.tobytes() alone, or ask for application/x-npy"


def _nested(items: list[Any], array: Array) -> Any:
    """Returns the flat `items` in lists of the shape of `array`."""
    if array.ndim == 1:
        return items
    if not array.ndim:
        return items[0]
    if not array.size:
        return array.tolist()
    for length in reversed(array.shape[1:]):
        items = [items[start : start + length] for start in range(0, len(items), length)]
    return items


def _position(array: Array, index: int) -> tuple[int, ...]:
    return tuple(int(one) for one in sys.modules["numpy"].unravel_index(index, array.shape))


def _no_form_at(array: Array, wrong: Array, problem: str, remedy: str) -> NoJsonForm:
    """Returns the error for the first item for which `wrong` is true."""
    index = int(wrong.reshape(-1).argmax())
    position = _position(array, index)
    return NoJsonForm(array[position], problem, remedy, position)
