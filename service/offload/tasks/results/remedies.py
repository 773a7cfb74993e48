"""`NoJsonForm`, raised for a value that JSON cannot express, and the sentence that says what to return instead.

Libraries are recognised by the names of their types; none is imported. A hostile value can make a remedy less specific,
but cannot make this module raise or run its code, except for attributes that it looks up dynamically.
"""

from __future__ import annotations

import inspect
import io
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from offload.errors import OffloadError
from offload.tasks.response import Response

GENERAL_REMEDY: Final = "Return JSON values, bytes, an array, or offload.Response(content, media_type=…)"

Path = tuple[str | int, ...]


class NoJsonForm(OffloadError):
    """A value has no JSON form.

    `problem` completes the sentence "The value … "; `remedy` says what to do, without the full stop. `path` leads from
    the value that was to be encoded to `value`.
    """

    def __init__(
        self, value: object, problem: str = "has no JSON form", remedy: str | None = None, path: Path = ()
    ) -> None:
        super().__init__(problem)
        self.value = value
        self.problem = problem
        self.remedy = remedy_for(value) if remedy is None else remedy
        self.path = path


def remedy_for(value: object) -> str:
    """Returns what to return instead of `value`, as a sentence without the full stop."""
    try:
        return _by_name(type(value)) or _by_kind(value) or _by_method(type(value)) or GENERAL_REMEDY
    except Exception:  # a metaclass or `__getattr__` may raise anything
        return GENERAL_REMEDY


def is_from_library(kind: type) -> bool:
    """Returns whether the type is one of a library's that must not be iterated, although it may offer that."""
    return _by_name(kind) is not None


def is_file(value: object) -> bool:
    """Returns whether `value` reads like a file, a stream or a socket, so it must not be iterated."""
    return isinstance(value, io.IOBase) or any(hasattr(value, name) for name in ("read", "readline", "fileno", "recv"))


def type_names(kind: type) -> Iterator[str]:
    """Yields "package.Name" for the type and its bases, without calling their metaclass."""
    for base in _bases(kind):
        module, name = type.__dict__["__module__"].__get__(base), type.__dict__["__qualname__"].__get__(base)
        yield f"{str(module).partition('.')[0]}.{name}"


def attribute_names(kind: type) -> set[str]:
    """Returns the names of the attributes of the type, without calling its metaclass."""
    return {name for base in _bases(kind) for name in type.__dict__["__dict__"].__get__(base)}


def _bases(kind: type) -> tuple[type, ...]:
    bases: tuple[type, ...] = type.__dict__["__mro__"].__get__(kind)
    return bases


def _convert(call: str) -> str:
    return f"Convert it with {call}"


_FILE: Final = (
    "Return its contents: file.read(), for io.BytesIO buffer.getvalue(), or Response(buffer.getvalue(), media_type=…)"
)
_IMAGE: Final = (
    "Save it into buffer = io.BytesIO(), for example as PNG, and return buffer.getvalue() or "
    "Response(buffer.getvalue(), media_type=…)"
)
_RESPONSE: Final = "Return offload.Response(content, media_type=…), or the content alone"
BYTES_REMEDY: Final = "Return bytes alone, or write them as text: base64.b64encode(value).decode()"

# By the first part of the module's name and the name of the type or of one of its bases.
_BY_NAME: Final[Mapping[str, str]] = {
    "pandas.DataFrame": _convert('.to_dict(orient="records")'),
    "pandas.Series": _convert(".tolist() or .to_dict()"),
    "pandas.Index": _convert(".tolist()"),
    "pandas.ExtensionArray": _convert(".tolist()"),
    "pandas.Period": _convert("str(value) or .to_timestamp()"),
    "pandas._Period": _convert("str(value) or .to_timestamp()"),
    "pandas.Interval": "Return its ends: [value.left, value.right]",
    "polars.DataFrame": _convert(".to_dicts()"),
    "polars.LazyFrame": _convert(".collect().to_dicts()"),
    "polars.Series": _convert(".to_list()"),
    "pyarrow._Tabular": _convert(".to_pylist()"),
    "pyarrow.Table": _convert(".to_pylist()"),
    "pyarrow.RecordBatch": _convert(".to_pylist()"),
    "pyarrow.Array": _convert(".to_pylist()"),
    "pyarrow.ChunkedArray": _convert(".to_pylist()"),
    "pyarrow.Scalar": _convert(".as_py()"),
    "pyspark.DataFrame": _convert('.toPandas().to_dict(orient="records")'),
    "dask.DataFrame": _convert('.compute().to_dict(orient="records")'),
    "dask.Array": _convert(".compute()"),
    "xarray.Dataset": _convert(".to_dict()"),
    "xarray.DataArray": _convert(".values or .to_dict()"),
    "scipy.spmatrix": _convert(".toarray()"),
    "scipy._spbase": _convert(".toarray()"),
    "torch.Tensor": _convert(".tolist()"),
    "jax.Array": _convert(".tolist()"),
    "jaxlib.ArrayImpl": _convert(".tolist()"),
    "tensorflow.Tensor": _convert(".numpy()"),
    "tensorflow.Variable": _convert(".numpy()"),
    "cupy.ndarray": _convert(".get()"),
    "h5py.Dataset": "Read it: dataset[()]",
    "networkx.Graph": _convert("networkx.node_link_data(graph)"),
    "PIL.Image": _IMAGE,
    "matplotlib.Figure": _IMAGE.replace("Save it into", "Save it with .savefig(buffer) into"),
    "starlette.Response": _RESPONSE,
    "werkzeug.Response": _RESPONSE,
    "aiohttp.StreamResponse": _RESPONSE,
    "django.HttpResponseBase": _RESPONSE,
    "requests.Response": "Return value.json(), value.text or value.content",
    "httpx.Response": "Return value.json(), value.text or value.content",
    "subprocess.CompletedProcess": "Return value.stdout",
    "concurrent.Future": "Wait for it and return value.result()",
    "distributed.Future": "Wait for it and return value.result()",
    "multiprocessing.ApplyResult": "Wait for it and return value.get()",
    "fractions.Fraction": _convert("float(value) or str(value)"),
    "sqlite3.Row": _convert("dict(row)"),
    "msgspec.Struct": _convert("msgspec.to_builtins(value)"),
}

_CALLABLE_TYPES: Final = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    type,
)

# By a method that a type offers, best first.
_BY_METHOD: Final[tuple[tuple[str, str], ...]] = (
    ("__attrs_attrs__", "attrs.asdict(value)"),
    ("to_dicts", ".to_dicts()"),
    ("to_pylist", ".to_pylist()"),
    ("tolist", ".tolist()"),
    ("to_list", ".to_list()"),
    ("toarray", ".toarray()"),
    ("to_dict", ".to_dict()"),
    ("_asdict", "._asdict()"),
    ("isoformat", ".isoformat()"),
    ("__array__", "numpy.asarray(value)"),
    ("keys", "dict(value)"),
    ("__iter__", "list(value)"),
)


def _by_name(kind: type) -> str | None:
    return next((_BY_NAME[name] for name in type_names(kind) if name in _BY_NAME), None)


def _by_kind(value: object) -> str | None:
    for kinds, remedy in _BY_KIND:
        if isinstance(value, kinds):
            return remedy
    for matches, remedy in _BY_CHECK:
        if matches(value):
            return remedy
    return None


_BY_KIND: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (Response, "Return the Response alone, not inside another value"),
    ((bytes, bytearray, memoryview), BYTES_REMEDY),
    (complex, "Return its parts: [value.real, value.imag]"),
    (BaseException, "Raise it, or return str(value)"),
    (_CALLABLE_TYPES, "Call it and return its result"),
    (types.SimpleNamespace, _convert("vars(value)")),
    (types.ModuleType, GENERAL_REMEDY),
)

_BY_CHECK: Final[tuple[tuple[Callable[[Any], bool], str], ...]] = (
    (lambda value: hasattr(value, "read"), _FILE),
    (inspect.isawaitable, "Run it in the task, with asyncio.run(…), and return its result"),
    (inspect.isasyncgen, "Read it in the task, within asyncio.run(…), and return a list"),
)


def _by_method(kind: type) -> str | None:
    names = attribute_names(kind)
    return next((_convert(call) for method, call in _BY_METHOD if method in names), None)
