"""Finds the tasks that call nothing. Their jobs can neither change nor notice the state of the process.

`Surroundings.restore` costs a few microseconds: nothing beside the work of a job, but a tenth of one that does none.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from types import CodeType, FunctionType, NoneType
from typing import Any, Final

# Values of these types run no code of the user when they are validated, used with an operator, or encoded.
_PLAIN: Final = frozenset({NoneType, bool, int, float, str, bytes, memoryview, list, dict, tuple, Any})
_GENERIC: Final = frozenset({list, dict, tuple, typing.Union, types.UnionType})


def calls_nothing(function: Callable[..., object]) -> bool:
    """Whether the function certainly works on its arguments only, and these are plain values."""
    if not isinstance(function, FunctionType) or function.__closure__ is not None:
        return False
    try:
        annotations = typing.get_type_hints(function, include_extras=True)
    except Exception:  # an annotation that cannot be evaluated
        return False
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    return (
        all(_is_plain_type(annotation) for annotation in annotations.values())
        and all(type(default) in _PLAIN for default in defaults)
        and _names_nothing(function.__code__)
    )


def _names_nothing(code: CodeType) -> bool:
    """Whether the code reads no global, no attribute and imports nothing, so that it has nothing to call."""
    return not code.co_names and all(_names_nothing(const) for const in code.co_consts if isinstance(const, CodeType))


def _is_plain_type(annotation: Any) -> bool:
    origin = typing.get_origin(annotation)
    if origin is None:
        return annotation in _PLAIN
    return origin in _GENERIC and all(_is_plain_type(part) for part in typing.get_args(annotation) if part is not ...)
