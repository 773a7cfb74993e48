"""NumPy arrays as arguments: recognises them in type hints and as values, and reads JSON lists and .npy files.

NumPy is not a dependency. A task uses arrays only if the user's code imports NumPy, so it is looked up in
`sys.modules`, never imported. Files are read without pickle.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np

NPY_MEDIA_TYPE: Final = "application/x-npy"
NPY_MAGIC: Final = b"\x93NUMPY"

# NumPy's letters for element kinds: boolean, signed and unsigned integer; floating point and complex.
_EXACT_KINDS: Final = "biu"
_NUMBER_KINDS: Final = "biufc"
# All integers up to this one are exact in floating point of 64 bits.
_MAX_EXACT: Final = 1 << 53
_TOO_LARGE: Final = "Input should contain only numbers that fit into 64 bits"


def is_array(value: object) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and issubclass(type(value), numpy.ndarray)


def is_array_hint(hint: Any) -> bool:
    """Returns whether `hint` is `numpy.ndarray`, with or without shape and element type."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and (hint is numpy.ndarray or typing.get_origin(hint) is numpy.ndarray)


def element_type(hint: Any) -> np.dtype[Any] | None:
    """Returns the element type of an array hint, or None if it is open, as in `NDArray[np.floating]`."""
    numpy = sys.modules["numpy"]
    for argument in typing.get_args(hint)[1:]:
        for scalar in typing.get_args(argument):
            # NumPy's abstract types, such as `floating`, have subclasses.
            if isinstance(scalar, type) and issubclass(scalar, numpy.generic) and not scalar.__subclasses__():
                wanted: np.dtype[Any] = numpy.dtype(scalar)
                return wanted
    return None


def to_array(value: object, wanted: np.dtype[Any] | None) -> np.ndarray[Any, Any]:
    """Convert nested lists of numbers, or an array, to an array with elements of type `wanted`, if given.

    Raises ValueError with a message for the caller for other values, and for elements that do not fit.
    """
    numpy = sys.modules["numpy"]
    if not isinstance(value, (list, numpy.ndarray)):
        raise ValueError("Input should be lists of numbers, nested once for each dimension")
    try:
        array: np.ndarray[Any, Any] = numpy.asarray(value)
    except OverflowError:
        raise ValueError(_TOO_LARGE) from None
    except ValueError:
        raise ValueError("Input should be a rectangular array: all rows of a dimension have the same length") from None
    if isinstance(value, list) and (wanted is None or wanted.kind in _EXACT_KINDS):
        _reject_rounded(value, array)
    if wanted is None or array.dtype == wanted:
        if isinstance(value, list) and array.dtype.kind not in _NUMBER_KINDS:
            raise ValueError(_TOO_LARGE)
        return array
    return _converted(array, wanted)


def _reject_rounded(value: list[Any], array: np.ndarray[Any, Any]) -> None:
    """Raises ValueError if NumPy has rounded an integer, to give it the type of the elements beside it."""
    if array.dtype.kind != "f" or not (abs(array) >= _MAX_EXACT).any():
        return
    for item in _flat(value):
        if isinstance(item, int) and float(item) != item:
            raise ValueError(
                f"Input should have elements that one type of 64 bits holds exactly; {item} would be rounded beside "
                "the others"
            )


def _flat(value: list[Any]) -> Iterator[Any]:
    for item in value:
        if isinstance(item, list):
            yield from _flat(item)
        else:
            yield item


def read_npy(data: bytes | bytearray | memoryview) -> np.ndarray[Any, Any]:
    """Returns the array in an .npy file. Raises ValueError with a message if the file is invalid or needs pickle."""
    numpy = sys.modules["numpy"]
    file = _File(data)
    try:
        array: np.ndarray[Any, Any] = numpy.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # NumPy's parser may raise anything for a broken file, MemoryError included
        raise ValueError(f"Input should be an .npy file without Python objects: {error}") from error
    if file.rest_bytes:
        raise ValueError("Input should be one .npy file; it has further bytes after the array")
    return array


class _File:
    """A readable file for NumPy that does not copy a view as `io.BytesIO` does."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._rest = memoryview(data)

    @property
    def rest_bytes(self) -> int:
        return len(self._rest)

    def read(self, count: int) -> bytes:
        piece, self._rest = self._rest[:count], self._rest[count:]
        return bytes(piece)


def _converted(array: np.ndarray[Any, Any], wanted: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Convert the elements. Integers must keep their value; floating point may lose digits; text is rejected."""
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
