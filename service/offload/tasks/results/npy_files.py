"""Writes arrays as .npy files, without pickle. NumPy is looked up in `sys.modules`, never imported."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

from offload.tasks.results.remedies import NoJsonForm

if TYPE_CHECKING:
    import numpy as np


def write_npy(array: np.ndarray[Any, Any]) -> bytes:
    """Returns `array` as an .npy file. Raises NoJsonForm for an array that only pickle could write."""
    numpy = sys.modules["numpy"]
    if array.dtype.hasobject:
        problem = f"has items of type {array.dtype}, which an .npy file holds only as Python objects"
        raise NoJsonForm(array, problem, "Convert it with .astype(float) or .astype(str), or ask for application/json")
    if issubclass(type(array), numpy.ma.MaskedArray) and b"\1" in numpy.ma.getmaskarray(array).tobytes():
        problem = "has masked items, which an .npy file cannot express"
        raise NoJsonForm(array, problem, "Replace them with .filled(…), or ask for application/json")
    file = io.BytesIO()
    numpy.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()
