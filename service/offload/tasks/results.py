"""Encodes what a task returns: chooses the media type, and encodes JSON with orjson first, then with pydantic.

A value that cannot be encoded ends the job with a Fault, whatever its methods raise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import orjson
from pydantic_core import PydanticSerializationError, to_json

from offload.core.outcome import Reason
from offload.tasks.arrays import NPY_MEDIA_TYPE, is_array, write_npy
from offload.tasks.faults import Fault, exception_message, exception_name, full_type_name, shortened
from offload.tasks.response import Response

JSON_MEDIA_TYPE: Final = "application/json"
BYTES_MEDIA_TYPE: Final = "application/octet-stream"

# A frame between the processes may have twice this size.
MAX_RESULT_BYTES: Final = 1 << 30

_OPTIONS: Final = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
_MAX_PROBLEM_LENGTH: Final = 300
_REMEDY: Final = "Return JSON values, bytes, an array, or offload.Response(content, media_type=…)."


class Encoded(NamedTuple):
    """`len(body)` is its size in bytes."""

    media_type: str
    body: bytes | bytearray | memoryview


def encode(value: object, accept: str = "") -> Encoded:
    """Encode `value`; `accept` is the caller's Accept header.

    NaN and infinity become null in JSON, and bytes inside JSON are read as UTF-8 text. Raises only Fault
    `result-not-serialisable`, for a value that cannot be encoded or exceeds MAX_RESULT_BYTES.
    """
    try:
        encoded = _encode(value, accept)
    except BaseException as error:  # the value's own methods may raise anything
        raise _not_serialisable(value, f"cannot be encoded ({_describe(error)}). {_REMEDY}") from None
    if len(encoded.body) > MAX_RESULT_BYTES:
        problem = f"has {len(encoded.body):,} bytes; the limit is {MAX_RESULT_BYTES:,}. Return less data."
        raise _not_serialisable(value, problem)
    return encoded


def _encode(value: object, accept: str) -> Encoded:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return Encoded(BYTES_MEDIA_TYPE, _flat(value))
    if isinstance(value, Response):
        content = value.content
        return Encoded(value.media_type, content.encode("utf-8") if isinstance(content, str) else _flat(content))
    if accept and is_array(value) and _prefers_npy(accept):
        return Encoded(NPY_MEDIA_TYPE, write_npy(value))  # type: ignore[arg-type]  # is_array
    return Encoded(JSON_MEDIA_TYPE, _to_json(value))


def _to_json(value: object) -> bytes:
    try:
        return orjson.dumps(value, _encode_part, _OPTIONS)
    except orjson.JSONEncodeError:
        # Cases that orjson never passes to `_encode_part`: integers above 64 bits, unusual keys. Also iterators.
        return to_json(value, inf_nan_mode="null", fallback=_plain_array)


def _encode_part(value: object) -> Any:
    """Encode a value that orjson does not support: a pydantic model, a set, a Decimal, an unusual array."""
    if is_array(value):
        return _plain_array(value)
    if isinstance(value, Iterator):
        raise TypeError("an iterator can be read only once, so pydantic must encode the whole result")
    return orjson.Fragment(to_json(value, inf_nan_mode="null", fallback=_plain_array))


def _plain_array(value: Any) -> Any:
    """Returns lists and numbers for NumPy's arrays and scalars that neither encoder supports."""
    if is_array(value):
        return value.tolist()
    if type(value).__module__ == "numpy":
        return value.item()
    raise TypeError(f"{full_type_name(value)} has no JSON form")


def _flat(data: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
    if not isinstance(data, memoryview):
        return data
    return data.cast("B") if data.c_contiguous and data.nbytes else data.tobytes()


def _prefers_npy(accept: str) -> bool:
    """Returns whether `application/x-npy` is listed with at least the weight of JSON (RFC 9110, section 12.5.1)."""
    quality = {"": 0.0}
    for item in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in item.split(";"))
        quality[media_type] = _weight(parameters)
    return quality.get(NPY_MEDIA_TYPE, 0.0) > 0 and quality[NPY_MEDIA_TYPE] >= quality.get(JSON_MEDIA_TYPE, 0.0)


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def _not_serialisable(value: object, problem: str) -> Fault:
    name = full_type_name(value)
    return Fault(Reason.RESULT_NOT_SERIALISABLE, detail=f"The result of type {name} {problem}", result_type=name)


def _describe(error: BaseException) -> str:
    message = shortened(exception_message(error), _MAX_PROBLEM_LENGTH)
    if isinstance(error, PydanticSerializationError):
        return message.removeprefix("Error serializing to JSON: ")
    return f"{exception_name(error)}: {message}"
