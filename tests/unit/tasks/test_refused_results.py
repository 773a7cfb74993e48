"""What a task must not return: each is refused with the path to the value, its type and the remedy."""

from __future__ import annotations

import inspect
import io
import itertools
import math
import sys
import tempfile
import threading
from array import array
from collections import UserDict
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
import pandas as pd
import pytest
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, RootModel, field_serializer
from pydantic.dataclasses import dataclass as validated_dataclass

from offload.core.outcome import Reason
from offload.tasks.faults import Fault
from offload.tasks.response import Response
from offload.tasks.results import encoding as results
from offload.tasks.results import json_encoding as encoding
from offload.tasks.results.encoding import encode

GENERAL: Final = "Return JSON values, bytes, an array, or offload.Response(content, media_type=…)."
BYTES: Final = "Return bytes alone, or write them as text: base64.b64encode(value).decode()."
INFINITE: Final = "is infinite, which JSON cannot express. Replace it with a number, text or None."
KEYS: Final = "but keys are text in JSON. Write the keys as text, for example ','.join(key) for tuples of text."
SURROGATE: Final = (
    "has a lone surrogate, which is not valid Unicode. "
    "Replace it, for example with text.encode('utf-8', 'replace').decode()."
)
FILE: Final = (
    "has no JSON form. Return its contents: file.read(), for io.BytesIO buffer.getvalue(), or "
    "Response(buffer.getvalue(), media_type=…)."
)
IMAGE: Final = (
    "io.BytesIO(), for example as PNG, and return buffer.getvalue() or Response(buffer.getvalue(), media_type=…)"
)


def refusal(value: object, accept: str = "") -> Fault:
    with pytest.raises(Fault) as caught:
        encode(value, accept)
    assert caught.value.reason is Reason.RESULT_NOT_SERIALISABLE
    fields = orjson.loads(caught.value.to_json())
    assert set(fields) == {"detail", "result_type", "pointer"}
    return caught.value


def refused(value: object, accept: str = "") -> tuple[str, str]:
    """Returns the pointer and the detail."""
    fields = refusal(value, accept).fields
    return fields["pointer"], fields["detail"]


class Failing(BaseModel):
    x: int = 1

    @field_serializer("x")
    def _end(self, x: int) -> int:
        raise SystemExit(x)


class Holder(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")
    any: Any = Field(None, serialization_alias="Any")


class Loose(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="allow")
    file: io.BytesIO | None = None
    inner: Holder | None = None
    many: dict[str, list[Any]] = Field(default_factory=dict, serialization_alias="Many")
    below: list[Loose] = Field(default_factory=list)


@dataclass
class Plain:
    x: float


class Limit(Enum):
    NONE = math.inf


class Measured(BaseModel):
    x: float = 1
    further: dict[int, list[Measured]] = Field(default_factory=dict)


@validated_dataclass
class Wrapped:
    any: Any
    x: float = 1


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError

    __str__ = __repr__


class LyingType(type):
    def __getattribute__(cls, name: str) -> Any:
        raise ValueError(name)


class Lying(metaclass=LyingType): ...


class LyingClass:
    @property  # type: ignore[misc]  # deliberately wrong
    def __class__(self) -> Any:
        return dict


class LyingIterator:
    def __iter__(self) -> Any:
        raise SystemExit

    __next__ = __iter__


class Endless:
    """A sequence whose items are sequences, without end."""

    def __getitem__(self, index: int) -> Endless:
        return Endless()


def failing() -> Iterator[int]:
    yield 1
    raise ValueError("no more")


def cyclic() -> list[Any]:
    value: list[Any] = [1]
    value.append({"a": [value]})
    return value


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def sharing_an_iterator() -> list[Holder]:
    items = iter([1])
    return [Holder(any=[items]), Holder(any=items)]


async def later() -> None: ...


async def some() -> Any:
    yield 1


def self_containing_array() -> Any:
    value = np.empty(1, object)
    value[0] = value
    return value


class Row(NamedTuple):
    value: object
    pointer: str
    detail: str


ROWS: Final = {
    "object": Row({"a": [object()]}, "/a/0", f"builtins.object at /a/0 has no JSON form. {GENERAL}"),
    "escapes in the path": Row(
        {"a/b~": {1: [b"x"]}}, "/a~1b~0/1/0", f"builtins.bytes at /a~1b~0/1/0 has no JSON form. {BYTES}"
    ),
    "bytearray": Row([bytearray(b"text")], "/0", f"builtins.bytearray at /0 has no JSON form. {BYTES}"),
    "memoryview": Row([memoryview(b"x")], "/0", f"builtins.memoryview at /0 has no JSON form. {BYTES}"),
    "infinity": Row({"a": (1, -math.inf)}, "/a/1", f"builtins.float at /a/1 {INFINITE}"),
    "infinity alone": Row(math.inf, "", f"builtins.float {INFINITE}"),
    "infinity among missing values": Row([None, [math.nan, {"x": math.inf}]], "/1/1/x", INFINITE),
    "infinity in a deep collection": Row([None, {frozenset([math.inf])}], "/1/0/0", INFINITE),
    "infinity in array.array": Row([array("d", [1, math.inf])], "/0/1", INFINITE),
    "infinity in objects": Row(np.array([1, [math.inf]], object), "/1/0", INFINITE),
    "infinity as decimal": Row([Decimal("-inf")], "/0", f"decimal.Decimal at /0 {INFINITE}"),
    "NumPy infinity": Row([np.float32(math.inf)], "/0", f"numpy.float32 at /0 {INFINITE}"),
    "NumPy infinity in an array": Row(
        {"a": np.array([[1, math.inf]])}, "/a/0/1", f"numpy.float64 at /a/0/1 {INFINITE}"
    ),
    "complex": Row([1j], "/0", "Return its parts: [value.real, value.imag]."),
    "NumPy complex": Row([np.complex64(1)], "/0", "Return its parts: [value.real, value.imag]."),
    "complex array": Row(
        {"a": np.array([1j])},
        "/a",
        "numpy.ndarray at /a has items of NumPy's type complex128, which have no JSON form. "
        "Return its parts: [array.real.tolist(), array.imag.tolist()].",
    ),
    "bytes array": Row(np.array([b"a"]), "", "Decode it with .astype(str), or return array.tobytes() alone."),
    "void array": Row(np.zeros(1, "V2"), "", "Return array.tobytes() alone, or ask for application/x-npy."),
    "complex field": Row(np.zeros(2, [("a", int), ("z", complex)]), "/0/1", "complex128, which have no JSON form."),
    "long double": Row(
        [np.longdouble(1) / 3], "/0", "numpy.longdouble at /0 does not fit into a floating point number of 64 bits."
    ),
    "long double array": Row(
        np.array([1, np.longdouble(1) / 3]), "/1", "Round it with .astype(float), or return str(value)."
    ),
    "far date": Row(
        {"t": np.array(["2026-01-02", "12026-01-02"], "M8[D]")},
        "/t/1",
        "numpy.datetime64 at /t/1 has a date outside the years 1 to 9999. "
        "Return str(value), or None for dates that are missing.",
    ),
    "far date among times": Row(np.array(["-0001-01-01", "NaT"], "M8[s]"), "/0", "a date outside the years 1 to 9999"),
    "far date of a record": Row(
        np.array([(1, "20000-01-01")], [("a", int), ("t", "M8[Y]")]), "/0/1", "years 1 to 9999"
    ),
    "far date alone": Row(np.datetime64("12026"), "", "numpy.datetime64 has a date outside the years 1 to 9999."),
    "far timestamp": Row([pd.Timestamp(np.datetime64(10**12, "s"))], "/0", "is a date outside the years 1 to 9999."),
    "unit overflow": Row(np.array([2**60]).view("M8[10000s]"), "/0", "does not fit into 64 bits in its own unit."),
    "no unit": Row([np.timedelta64(5)], "/0", "numpy.timedelta64 at /0 counts time in no unit. Give it a unit"),
    "array in itself": Row(self_containing_array(), "/0", "numpy.ndarray at /0 contains itself."),
    "fraction": Row([Fraction(1, 3)], "/0", "Convert it with float(value) or str(value)."),
    "lone surrogate": Row({"a": ["b", "\ud800"]}, "/a/1", f"builtins.str at /a/1 {SURROGATE}"),
    "lone surrogate alone": Row("\ud800", "", f"The result of type builtins.str {SURROGATE}"),
    "lone surrogate as key": Row([{"\ud800": object()}], "/0", f"builtins.dict at /0 has a key that {SURROGATE}"),
    "equal keys": Row(
        [{1: "a", "1": "b"}],
        "/0",
        "builtins.dict at /0 has two keys that are both '1' in JSON. Give all keys the same type, for example str.",
    ),
    "equal keys of dates": Row(
        {date(2026, 1, 1): 1, "2026-01-01": 2}, "", "two keys that are both '2026-01-01' in JSON."
    ),
    "tuple key": Row({"a": {(1, 2): 3}}, "/a", f"builtins.dict at /a has a key of type builtins.tuple, {KEYS}"),
    "bytes key": Row({b"a": 1}, "", f"builtins.dict has a key of type builtins.bytes, {KEYS}"),
    "infinite key": Row({math.inf: 1}, "", f"has a key of type builtins.float, {KEYS}"),
    "cycle": Row(
        cyclic(), "/1/a/0", "builtins.list at /1/a/0 contains itself. Leave out the reference to the outer value."
    ),
    "deep list": Row(
        nested(255), "/0" * 150 + "… (208 more characters)", "is nested more than 254 levels deep, the limit."
    ),
    "Response inside": Row(
        ({"a": 1}, Response(b"x")),
        "/1",
        "offload.tasks.response.Response at /1 has no JSON form. Return the Response alone, not inside another value.",
    ),
    "data frame": Row(
        pd.DataFrame({"a": [1]}),
        "",
        'The result of type pandas.DataFrame has no JSON form. Convert it with .to_dict(orient="records").',
    ),
    "series": Row({"s": pd.Series([1])}, "/s", "Convert it with .tolist() or .to_dict()."),
    "index": Row([pd.DatetimeIndex(["2026-01-01"])], "/0", "Convert it with .tolist()."),
    "categories": Row([pd.Categorical(["a"])], "/0", "Convert it with .tolist()."),
    "period": Row([{"p": pd.Period("2026-01")}], "/0/p", "Convert it with str(value) or .to_timestamp()."),
    "interval": Row([pd.Interval(1, 2)], "/0", "Return its ends: [value.left, value.right]."),
    "image": Row({"i": Image.new("L", (1, 1))}, "/i", f"Save it into buffer = {IMAGE}."),
    "buffer": Row([io.BytesIO(b"a\nb")], "/0", FILE),
    "text buffer": Row(io.StringIO("a"), "", f"The result of type _io.StringIO {FILE}"),
    "standard input": Row([sys.__stdin__], "/0", FILE),
    "function": Row([len], "/0", "Call it and return its result."),
    "class": Row([dict], "/0", "Call it and return its result."),
    "module": Row([math], "/0", f"builtins.module at /0 has no JSON form. {GENERAL}"),
    "exception": Row([ValueError("x")], "/0", "Raise it, or return str(value)."),
    "lock": Row([threading.Lock()], "/0", f"_thread.lock at /0 has no JSON form. {GENERAL}"),
    "namespace": Row([SimpleNamespace(a=1)], "/0", "Convert it with vars(value)."),
    "future": Row([Future()], "/0", "Wait for it and return value.result()."),
    "finished process": Row([CompletedProcess([], 0)], "/0", "Return value.stdout."),
    "failing iterator": Row(
        [1, failing()],
        "/1",
        "builtins.generator at /1 raised ValueError: no more. Read it into a list within the task.",
    ),
    "iterator that occurs twice": Row(
        [itertools.repeat(iter([1]), 2)], "/0/1", "occurs twice, but can be read only once."
    ),
    "iterator in two models": Row(
        sharing_an_iterator(),
        "/1",
        "occurs twice, but can be read only once.",
    ),
    "field of a model": Row([Holder(any={"a": [object()]})], "/0/Any/a/0", f"has no JSON form. {GENERAL}"),
    "file in a model": Row([Loose(file=io.BytesIO(b"a"))], "/0/file", FILE),
    "guessed members of a model": Row(Loose(many={"a": [1, 1j]}), "/Many/a/1", "Return its parts"),
    "model in a model": Row(Loose(inner=Holder(any=b"x")), "/inner/Any", BYTES),
    "model below its own kind": Row(Loose(below=[Loose(many={"a": [b"x"]})]), "/below/0/Many/a/0", BYTES),
    "further member of a model": Row(Loose.model_validate({"z": {1: 1, "1": 2}}), "/z", "two keys that are both '1'"),
    "root of a model": Row([RootModel[Any]([b"x"])], "/0/0", BYTES),
    "member of a dataclass of pydantic": Row(Wrapped(b"x"), "/any", BYTES),
    "infinity in a model": Row([Measured(x=math.inf)], "/0/x", f"builtins.float at /0/x {INFINITE}"),
    "infinity deep in a model": Row(Measured(further={3: [Measured(x=-math.inf)]}), "/further/3/0/x", INFINITE),
    "infinity in a dataclass of pydantic": Row(Wrapped(None, math.inf), "/x", INFINITE),
    "infinity in a dataclass": Row([None, Plain(math.inf)], "/1/x", INFINITE),
    "infinity in a mapping": Row([UserDict({"a": math.inf})], "/0/a", INFINITE),
    "infinity in an enum": Row([Limit.NONE], "/0", INFINITE),
    "model that writes NaN": Row(
        [Holder(any=math.nan)], "/0", "Set ser_json_inf_nan to 'null' or 'strings' in its config."
    ),
    "model that raises": Row([Failing()], "/0", "Failing at /0 cannot be encoded (PydanticSerializationError: "),
    "hostile repr": Row([Unprintable()], "/0", f"Unprintable at /0 has no JSON form. {GENERAL}"),
    "hostile type": Row(Lying(), "", f"{__name__}.Lying"),
    "hostile __class__": Row([LyingClass()], "/0", "LyingClass at /0 has no JSON form."),
    "hostile iterator": Row([LyingIterator()], "/0", "LyingIterator at /0"),
    "endless sequence": Row(Endless(), "", "Endless has no JSON form."),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_value_without_json_form_is_refused_with_path_type_and_remedy(row: Row) -> None:
    pointer, detail = refused(row.value)
    assert pointer == row.pointer
    assert row.detail in detail
    beginning = "The value of type" if row.pointer else "The result of type"
    assert detail.startswith(beginning)


def test_the_type_in_the_problem_is_that_of_the_whole_result() -> None:
    assert refusal({"a": [object()]}).fields["result_type"] == "builtins.dict"


@pytest.mark.parametrize("kind", [later, some])
def test_a_result_that_must_be_awaited_is_refused(kind: Any) -> None:
    value = kind()
    assert "asyncio.run(…)" in refused([value])[1]
    if inspect.iscoroutine(value):
        value.close()


def test_a_file_is_never_read() -> None:
    with tempfile.TemporaryFile() as file, tempfile.NamedTemporaryFile("w+") as named:
        named.write("a\n")
        named.seek(0)
        assert refused([file])[1].endswith(FILE)
        assert refused([named])[1].endswith(FILE)
        assert named.read() == "a\n"


@pytest.mark.parametrize(
    ("module", "name", "remedy"),
    [
        ("polars.dataframe.frame", "DataFrame", ".to_dicts()"),
        ("polars.series.series", "Series", ".to_list()"),
        ("pandas.core.frame", "DataFrame", '.to_dict(orient="records")'),
        ("pyarrow.lib", "Table", ".to_pylist()"),
        ("torch", "Tensor", ".tolist()"),
        ("jaxlib._jax", "ArrayImpl", ".tolist()"),
        ("tensorflow.python.framework.ops", "Tensor", ".numpy()"),
        ("xarray.core.dataset", "Dataset", ".to_dict()"),
        ("scipy.sparse._base", "_spbase", ".toarray()"),
    ],
)
def test_a_library_that_is_not_imported_is_recognised_by_its_types(module: str, name: str, remedy: str) -> None:
    base = type(name, (), {"__module__": module, "__iter__": lambda self: iter([1]), "__len__": lambda self: 1})
    value = type("Special", (base,), {})()
    assert refused({"a": value})[1].endswith(f"Special at /a has no JSON form. Convert it with {remedy}.")


def test_a_figure_is_saved_into_a_buffer() -> None:
    figure = type("Figure", (), {"__module__": "matplotlib.figure"})()
    assert refused(figure)[1].endswith(f"Save it with .savefig(buffer) into buffer = {IMAGE}.")


@pytest.mark.parametrize("module", ["starlette.responses", "werkzeug.wrappers.response"])
def test_a_response_of_another_framework_is_refused_with_ours(module: str) -> None:
    response = type("JSONResponse", (type("Response", (), {"__module__": module, "body": b"{}"}),), {})()
    assert refused(response)[1].endswith("Return offload.Response(content, media_type=…), or the content alone.")


@pytest.mark.parametrize("method", ["tolist", "to_dict", "isoformat", "__iter__"])
def test_an_unknown_type_is_converted_by_a_method_that_it_has(method: str) -> None:
    value = type("Special", (), {method: lambda self: None})()
    call = "list(value)" if method == "__iter__" else f".{method}()"
    assert refused(value)[1].endswith(f"Convert it with {call}.")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (np.array([object()]), "an .npy file holds only as Python objects"),
        (np.zeros(1, [("a", object)]), "an .npy file holds only as Python objects"),
        (np.ma.array([1, 2], mask=[False, True]), "has masked items, which an .npy file cannot express"),
    ],
)
def test_an_array_that_an_npy_file_cannot_hold_is_refused(value: Any, problem: str) -> None:
    assert problem in refused(value, "application/x-npy")[1]


def test_text_that_is_not_unicode_is_refused_in_a_response() -> None:
    pointer, detail = refused(Response("\ud800"))
    assert pointer == ""
    assert detail.startswith(
        "The result of type offload.tasks.response.Response cannot be encoded (UnicodeEncodeError: "
    )


def test_the_deepest_result_is_written() -> None:
    assert len(encode(nested(254)).body) == len(encode([iter([nested(252)])]).body) == 509


def test_a_result_above_the_size_limit_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MAX_RESULT_BYTES", 3)
    assert encode(b"abc").body == b"abc"
    assert refusal(b"abcd").fields == {
        "detail": "The result of type builtins.bytes has 4 bytes; the limit is 3. Return less data.",
        "result_type": "builtins.bytes",
        "pointer": "",
    }


def test_an_endless_iterator_ends_at_the_size_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "MAX_RESULT_BYTES", 100_000)
    pointer, detail = refused({"a": itertools.count()})
    assert pointer == "/a"
    assert detail.endswith(" at /a makes the result larger than 100,000 bytes, the limit. Return less data.")
