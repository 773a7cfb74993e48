"""Encodes what a task returns: chooses the media type, and says where and why a result cannot be encoded."""

from __future__ import annotations

from typing import Final, NamedTuple

from offload.core.outcome import Reason
from offload.tasks.arrays import NPY_MEDIA_TYPE, is_array
from offload.tasks.faults import Fault, exception_message, exception_name, full_type_name, pointer_to, shortened
from offload.tasks.response import Response
from offload.tasks.results.json_encoding import MAX_RESULT_BYTES, json_bytes
from offload.tasks.results.npy_files import write_npy
from offload.tasks.results.remedies import GENERAL_REMEDY, NoJsonForm

JSON_MEDIA_TYPE: Final = "application/json"
BYTES_MEDIA_TYPE: Final = "application/octet-stream"

_MAX_PROBLEM_LENGTH: Final = 300
_MAX_POINTER_LENGTH: Final = 300


class Encoded(NamedTuple):
    """`len(body)` is its size in bytes."""

    media_type: str
    body: bytes | bytearray | memoryview


_NULL: Final = Encoded(JSON_MEDIA_TYPE, b"null")


def encode(value: object, accept: str = "") -> Encoded:
    """Encode `value`; `accept` is the caller's Accept header.

    Missing values, such as NaN, become null in JSON. Raises only Fault `result-not-serialisable`, for a value that
    cannot be encoded exactly or exceeds MAX_RESULT_BYTES.
    """
    if value is None:
        return _NULL
    try:
        encoded = _encode(value, accept)
    except NoJsonForm as error:
        raise _not_serialisable(value, error) from None
    except BaseException as error:  # the value's own methods may raise anything
        problem = f"cannot be encoded ({exception_name(error)}: {_message(error)})"
        raise _not_serialisable(value, NoJsonForm(value, problem, GENERAL_REMEDY)) from None
    if len(encoded.body) > MAX_RESULT_BYTES:
        problem = f"has {len(encoded.body):,} bytes; the limit is {MAX_RESULT_BYTES:,}"
        raise _not_serialisable(value, NoJsonForm(value, problem, "Return less data"))
    return encoded


def _encode(value: object, accept: str) -> Encoded:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return Encoded(BYTES_MEDIA_TYPE, _flat(value))
    if isinstance(value, Response):
        content = value.content
        return Encoded(value.media_type, str.encode(content) if isinstance(content, str) else _flat(content))
    if accept and is_array(value) and _prefers_npy(accept):
        return Encoded(NPY_MEDIA_TYPE, write_npy(value))  # type: ignore[arg-type]  # is_array
    return Encoded(JSON_MEDIA_TYPE, json_bytes(value))


def _flat(data: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
    if not isinstance(data, memoryview):
        # A subclass may have a length of its own.
        return data if type(data) is bytes or type(data) is bytearray else memoryview(data)
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


def _not_serialisable(result: object, error: NoJsonForm) -> Fault:
    pointer = shortened(pointer_to(*error.path), _MAX_POINTER_LENGTH)
    name = full_type_name(error.value)
    where = f"The value of type {name} at {pointer}" if error.path else f"The result of type {name}"
    detail = f"{where} {error.problem}. {error.remedy}."
    return Fault(Reason.RESULT_NOT_SERIALISABLE, detail=detail, result_type=full_type_name(result), pointer=pointer)


def _message(error: BaseException) -> str:
    return shortened(exception_message(error), _MAX_PROBLEM_LENGTH)
