"""Finds the mutable default values of a task, so that each job gets a copy of its own.

A function keeps its defaults from one call to the next. What one job adds to a list would reach the next caller.
"""

from __future__ import annotations

import copy
import dataclasses
import types
from collections.abc import Iterable, MutableMapping, MutableSequence, MutableSet
from io import BytesIO, StringIO
from typing import Any, Final

from offload.tasks.arrays import is_array
from offload.tasks.definition.parameters import Parameter

_MUTABLE: Final = (MutableSequence, MutableMapping, MutableSet, BytesIO, StringIO, types.SimpleNamespace)


class MutableDefaults:
    """The mutable defaults of a task's parameters. Its truth value says whether there are any.

    Covers containers, dataclasses, arrays, types that define `__deepcopy__`, as pydantic's models do, and tuples that
    hold these. Any other object stays shared: it may be a sentinel that the task compares with `is`, or a loaded model
    that is expensive to copy. So does what cannot be copied.
    """

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        self._originals: dict[str, object] = {}
        for parameter in parameters:
            try:
                if not parameter.is_required and _is_mutable(parameter.default):
                    # The function's own value may change: the user's code can call the function directly.
                    self._originals[parameter.name] = copy.deepcopy(parameter.default)
            except Exception:  # it holds a lock, a connection or the like
                continue

    def __bool__(self) -> bool:
        return bool(self._originals)

    def add_to(self, arguments: dict[str, object]) -> None:
        """Add a copy of each default that the arguments lack."""
        for name, original in self._originals.items():
            if name not in arguments:
                arguments[name] = copy.deepcopy(original)


def _is_mutable(value: object) -> bool:
    if isinstance(value, _MUTABLE) or is_array(value):
        return True
    if isinstance(value, (tuple, frozenset)):
        return any(map(_is_mutable, value))
    if isinstance(value, type):
        return False
    if dataclasses.is_dataclass(value):
        parameters: Any = value.__dataclass_params__  # type: ignore[union-attr]  # each dataclass has it
        members = (getattr(value, field.name, None) for field in dataclasses.fields(value))
        return not parameters.frozen or any(map(_is_mutable, members))
    # A type that says how it is copied: a model, a data frame, a tensor. What cannot change returns itself.
    return hasattr(type(value), "__deepcopy__") and copy.deepcopy(value) is not value
