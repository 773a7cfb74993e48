"""Arrays and NumPy's scalars become what `.tolist()` returns, item by item, with null for what is missing."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.tasks.faults import Fault
from offload.tasks.results.encoding import encode

DATE_UNITS: Final = ("Y", "M", "W", "D")
TIME_UNITS: Final = ("h", "m", "s", "ms", "us")
SHORT_UNITS: Final = ("ns", "ps", "fs", "as")
UNITS: Final = (*DATE_UNITS, *TIME_UNITS, *SHORT_UNITS)
SECOND_DIGITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9, "ps": 12, "fs": 15, "as": 18}
UNIT_SECONDS: Final = {"W": 604_800, "D": 86_400, "h": 3_600, "m": 60, "s": 1}
NOT_A_TIME: Final = -(2**63)

# Their type hints are narrower than what they accept.
ma: Any = np.ma
rec: Any = np.rec
dtypes: Any = np.dtypes

ORDERS: Final[st.SearchStrategy[Any]] = st.sampled_from("<>")
SHAPES: Final = st.sampled_from(["flat", "column", "reversed", "fortran"])
COUNTS: Final = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(10**11), 10**11),
    st.integers(-4_000, 9_000),
    st.sampled_from([NOT_A_TIME, -1, 0, 1, 999, 1000, 253_402_300_799, 253_402_300_800, -62_135_596_801, 2_932_897]),
)


def shaped(array: Any, shape: str) -> Any:
    if shape == "column":
        return array.reshape(-1, 1)
    if shape == "reversed":
        return array[::-1]
    return np.asfortranarray(np.array([array, array])) if shape == "fortran" else array


def written(value: object) -> Any:
    """Returns the parsed result, which is the same within other values."""
    parsed = json.loads(bytes(encode(value).body))
    assert json.loads(bytes(encode({"a": [value], "b": iter([value])}).body)) == {"a": [parsed], "b": [parsed]}
    return parsed


def expected(item: Any) -> Any:
    """Returns what an item of `.tolist()` is in JSON."""
    if isinstance(item, (list, tuple)):
        return [expected(one) for one in item]
    if item is None or (isinstance(item, float) and math.isnan(item)):
        return None
    return item.isoformat() if isinstance(item, date) else item


def out_of_range(item: Any) -> bool:
    """Returns whether an item is not a date of the years 1 to 9999, but the integer in the array."""
    return any(map(out_of_range, item)) if isinstance(item, list) else isinstance(item, int)


@given(st.data(), st.sampled_from("?bBhHiIlLqQefd"), SHAPES)
def test_numbers_are_those_of_tolist(data: st.DataObject, kind: str, shape: str) -> None:
    dtype = np.dtype(kind).newbyteorder(data.draw(ORDERS))
    if dtype.kind == "f":
        width: Any = dtype.itemsize * 8
        numbers = data.draw(st.lists(st.floats(width=width, allow_infinity=False), max_size=4))
    elif dtype.kind == "b":
        numbers = data.draw(st.lists(st.booleans(), max_size=4))
    else:
        info = np.iinfo(dtype)
        numbers = data.draw(st.lists(st.integers(int(info.min), int(info.max)), max_size=4))
    array = shaped(np.array(numbers, dtype), shape)
    assert written(array) == expected(array.tolist())
    assert written(list(array.reshape(-1))) == expected(array.reshape(-1).tolist())


@given(st.lists(COUNTS, min_size=1, max_size=4), st.sampled_from(DATE_UNITS + TIME_UNITS), ORDERS, SHAPES)
def test_dates_are_those_of_tolist_or_refused(counts: list[int], unit: str, order: str, shape: str) -> None:
    array = shaped(np.array(counts, "i8").view(f"M8[{unit}]").astype(f"{order}M8[{unit}]"), shape)
    items = array.tolist()
    if not out_of_range(items):
        assert written(array) == expected(items)
        assert written(list(array.reshape(-1))) == expected(array.reshape(-1).tolist())
        return
    with pytest.raises(Fault) as caught:
        encode({"a": array})
    _, _, *path = caught.value.fields["pointer"].split("/")
    item = items
    for index in path:
        item = item[int(index)]
    assert out_of_range(item)


@given(st.lists(COUNTS, min_size=1, max_size=4), st.sampled_from(SHORT_UNITS), ORDERS, SHAPES)
def test_no_digit_of_a_short_unit_is_lost(counts: list[int], unit: str, order: str, shape: str) -> None:
    flat = np.array(counts, "i8").view(f"M8[{unit}]")
    for text, count in zip(written(flat), counts, strict=True):
        assert instant(text, unit) == (None if count == NOT_A_TIME else count)
    array = shaped(flat.astype(f"{order}M8[{unit}]"), shape)
    assert np.array(written(array)).reshape(-1).tolist() == [written(one) for one in array.reshape(-1)]


@given(st.lists(COUNTS, min_size=1, max_size=4), st.sampled_from(UNITS), ORDERS, SHAPES)
def test_no_digit_of_a_duration_is_lost(counts: list[int], unit: str, order: str, shape: str) -> None:
    flat = np.array(counts, "i8").view(f"m8[{unit}]")
    for text, count in zip(written(flat), counts, strict=True):
        assert duration(text, unit) == (None if count == NOT_A_TIME else count)
    array = shaped(flat.astype(f"{order}m8[{unit}]"), shape)
    assert np.array(written(array)).reshape(-1).tolist() == [written(one) for one in array.reshape(-1)]


@given(st.timedeltas(-timedelta(days=10**8), timedelta(days=10**8)))
def test_a_duration_is_the_same_from_python_and_numpy(value: timedelta) -> None:
    assert written(value) == written(np.timedelta64(value, "us"))


def instant(text: str | None, unit: str) -> int | None:
    """Returns the count of units since 1970 that `text` says."""
    if text is None:
        return None
    seconds, _, fraction = text.partition(".")
    whole = datetime.fromisoformat(seconds) - datetime(1970, 1, 1)
    digits = SECOND_DIGITS[unit]
    scale: int = 10**digits
    return (whole.days * 86_400 + whole.seconds) * scale + int(fraction.ljust(digits, "0") or 0)


def duration(text: str | None, unit: str) -> int | None:
    """Returns the count of units that an ISO 8601 duration says."""
    if text is None:
        return None
    sign = -1 if text.startswith("-") else 1
    days, _, time = text.lstrip("-").removeprefix("P").partition("T")
    if unit in ("Y", "M"):
        assert days.endswith(unit)
        return sign * int(days[:-1])
    seconds = Fraction(int(days.removesuffix("D") or 0) * 86_400)
    for letter, scale in (("H", 3_600), ("M", 60), ("S", 1)):
        number, found, rest = time.partition(letter)
        if found:
            seconds, time = seconds + Fraction(number) * scale, rest
    count = sign * seconds * 10 ** SECOND_DIGITS.get(unit, 0) / UNIT_SECONDS.get(unit, 1)
    assert count.denominator == 1
    return int(count)


RECORDS: Final = np.array(
    [[(1, "a", "NaT", (0.5, 1.5))], [(2, "", "2026-01-02", (math.nan, 0))]],
    [("n", "i4"), ("s", "U2"), ("t", "M8[D]"), ("f", "f4", (2,))],
)


@pytest.mark.parametrize(
    ("value", "json_text"),
    [
        (np.array(1.5), "1.5"),
        (np.array(["NaT"], "M8"), "[null]"),
        (np.array("NaT", "M8[ns]"), "null"),
        (np.array(["2026-01-02T03", "NaT"], "M8[25s]"), '["2026-01-02T03:00:00",null]'),
        (np.array([5], "m8[10ms]"), '["PT0.05S"]'),
        (np.array([0.1], "f4"), "[0.10000000149011612]"),
        (np.array([0.5, math.nan], np.longdouble), "[0.5,null]"),
        (np.longdouble(0.5), "0.5"),
        (np.zeros((0, 3)), "[]"),
        (np.zeros((2, 0), "M8[s]"), "[[],[]]"),
        (np.zeros(0, complex), "[]"),
        (np.array([[1, 2]]).view(np.matrix), "[[1,2]]"),
        (rec.array([(1, 2)]), "[[1,2]]"),
        (np.broadcast_to(np.array([1.5]), (2, 2)), "[[1.5,1.5],[1.5,1.5]]"),
        (np.array(["a", "b c"]), '["a","b c"]'),
        (np.array(["a", None], dtypes.StringDType(na_object=None)), '["a",null]'),
        (np.array(["a", math.nan], dtypes.StringDType(na_object=math.nan)), '["a",null]'),
        (np.array([1, None, "a", {2}, math.nan, 2**70], object), '[1,null,"a",[2],null,1180591620717411303424]'),
        (np.array({"a": 1}, object), '{"a":1}'),
        (ma.array([1, 2], mask=[0, 1]), "[1,null]"),
        (ma.array([[1.5, math.inf]], mask=[[0, 1]]), "[[1.5,null]]"),
        (ma.array(["2026-01-01", "20000-01-01"], "M8[D]", mask=[0, 1]), '["2026-01-01",null]'),
        (ma.array([1j], mask=[1]), "[null]"),
        (ma.masked, "null"),
        (ma.array([(1, 2.5)], mask=[(0, 1)], dtype=[("a", int), ("b", float)]), "[[1,null]]"),
        (RECORDS, '[[[1,"a",null,[0.5,1.5]]],[[2,"","2026-01-02",[null,0.0]]]]'),
        (RECORDS[0, 0], '[1,"a",null,[0.5,1.5]]'),
    ],
    ids=lambda value: f"{type(value).__name__} {value.dtype}" if isinstance(value, (np.ndarray, np.generic)) else "",
)
def test_an_array_of_any_kind_is_written_exactly(value: Any, json_text: str) -> None:
    assert encode(value).body == json_text.encode()
    assert encode([value]).body == f"[{json_text}]".encode()


class Plain(np.ndarray[Any, Any]):
    pass


def test_a_subclass_without_items_of_its_own_is_written_as_any_other_array() -> None:
    times = np.array(["2026-01-02T00:00:00.000000001", "NaT"], "M8[ns]").view(Plain)
    assert encode(times).body == b'["2026-01-02T00:00:00.000000001",null]'


class Labelled(np.ndarray[Any, Any]):
    def tolist(self) -> Any:
        return ["one", math.nan, 2**70]


def test_a_subclass_says_itself_what_its_items_are() -> None:
    assert encode(np.zeros(2).view(Labelled)).body == b'["one",null,1180591620717411303424]'


def test_a_file_mapped_array_is_written_as_any_other(tmp_path: Any) -> None:
    mapped = np.memmap(tmp_path / "numbers", dtype="i4", shape=(3,), mode="w+")
    mapped[:] = [1, 2, 3]
    assert encode(mapped).body == b"[1,2,3]"
