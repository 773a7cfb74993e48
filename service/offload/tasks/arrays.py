"""NumPy arrays as arguments and results.

Lives here: recognising them in type hints, making them from JSON or .npy files, and writing .npy files.  NumPy is no
dependency: a task can only have to do with arrays if the user's code has imported it, so it is looked up, never
imported.  Files are read without pickle.
"""

from __future__ import annotations

import io
import sys
import typing
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np

NPY_MEDIA_TYPE: Final = "application/x-npy"

# NumPy's letters for kinds of elements: booleans, signed and unsigned whole numbers; floating point, complex.
_EXACT_KINDS: Final = "biu"
_NUMBER_KINDS: Final = "biufc"


def is_array(value: object) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def is_array_hint(hint: Any) -> bool:
    """Whether `hint` is `numpy.ndarray`, bare or with its shape and element type."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and (hint is numpy.ndarray or typing.get_origin(hint) is numpy.ndarray)


def element_type(hint: Any) -> np.dtype[Any] | None:
    """The element type that an array's hint asks for; None if it leaves that open, as `NDArray[np.floating]` does."""
    numpy = sys.modules["numpy"]
    for argument in typing.get_args(hint)[1:]:
        for scalar in typing.get_args(argument):
            # NumPy's abstract types, such as `floating`, are those that others derive from.
            if isinstance(scalar, type) and issubclass(scalar, numpy.generic) and not scalar.__subclasses__():
                wanted: np.dtype[Any] = numpy.dtype(scalar)
                return wanted
    return None


def to_array(value: object, wanted: np.dtype[Any] | None) -> np.ndarray[Any, Any]:
    """An array of nested lists of numbers, or of an array that was read; elements of type `wanted` if there is one.

    Raises ValueError, with a sentence for the caller, for all else, and where elements would not survive.
    """
    numpy = sys.modules["numpy"]
    if not isinstance(value, (list, numpy.ndarray)):
        raise ValueError("Input should be lists of numbers, nested once for each dimension")
    try:
        array: np.ndarray[Any, Any] = numpy.asarray(value)
    except (ValueError, OverflowError):
        raise ValueError("Input should be a rectangular array: all rows of a dimension have the same length") from None
    if wanted is None or array.dtype == wanted:
        if isinstance(value, list) and array.dtype.kind not in _NUMBER_KINDS:
            raise ValueError("Input should contain only numbers that fit into 64 bits")
        return array
    return _converted(array, wanted)


def read_npy(data: bytes | bytearray | memoryview) -> np.ndarray[Any, Any]:
    """The array in an .npy file.  Raises ValueError, with a sentence, if it is none, or would need pickle."""
    numpy = sys.modules["numpy"]
    file = _File(data)
    try:
        array: np.ndarray[Any, Any] = numpy.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # NumPy's parser raises whatever comes up in broken files, MemoryError included
        raise ValueError(f"The body should be an .npy file without Python objects: {error}") from error
    if file.rest_bytes:
        raise ValueError("The body should be one .npy file; it has further bytes after the array")
    return array


def write_npy(array: np.ndarray[Any, Any]) -> bytes:
    """The .npy file of `array`.  Raises ValueError for arrays of Python objects."""
    numpy = sys.modules["numpy"]
    file = io.BytesIO()
    numpy.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


class _File:
    """What NumPy wants of a file, without the copy that `io.BytesIO` makes of a view."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._rest = memoryview(data)

    @property
    def rest_bytes(self) -> int:
        return len(self._rest)

    def read(self, count: int) -> bytes:
        piece, self._rest = self._rest[:count], self._rest[count:]
        return bytes(piece)


def _converted(array: np.ndarray[Any, Any], wanted: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Whole numbers must arrive unchanged; floating point may lose digits, but never turns up from text."""
    numpy = sys.modules["numpy"]
    is_exact = wanted.kind in _EXACT_KINDS
    is_open = array.dtype.kind in _NUMBER_KINDS and (is_exact or numpy.can_cast(array.dtype, wanted, "same_kind"))
    if not is_open and array.size:
        raise ValueError(f"Input should have elements that fit into {wanted}, not {array.dtype}")
    with numpy.errstate(all="ignore"):
        converted: np.ndarray[Any, Any] = array.astype(wanted, casting="unsafe")
    if is_exact and not numpy.array_equal(converted, array):
        raise ValueError(f"Input should have elements that fit into {wanted}; at least one does not")
    return converted
