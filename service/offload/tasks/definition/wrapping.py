"""Looks through decorators: finds the function below them, also where a decorator without `functools.wraps` hides it.

Every task file imports this module, so it imports very little.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """A function that a decorator without `functools.wraps` replaced by `wrapper`.

    `variable` is the wrapper's name for the function, as in `self._function` or `function`.
    """

    function: FunctionType
    wrapper: Callable[..., Any]
    variable: str

    @property
    def takes_anything(self) -> bool:
        """Whether the wrapper has `*args` or `**kwargs`, so that its own signature says nothing."""
        code = plain_function(self.wrapper).__code__  # type: ignore[union-attr]  # a wrapper is written in Python
        return bool(code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS))

    def __str__(self) -> str:
        """Returns the fault and its remedy."""
        code = plain_function(self.wrapper).__code__  # type: ignore[union-attr]  # as above
        place = code_location(code)
        if not inspect.isfunction(self.wrapper):
            name = type(self.wrapper).__name__
            update = f"functools.update_wrapper(self, {self.variable})"
            return f"wrapped by a decorator without functools.wraps, the class {name!r} ({place}); call {update} in it"
        decorator, _, _ = self.wrapper.__qualname__.partition(".<locals>")
        name = self.wrapper.__name__
        return (
            f"wrapped by a decorator without functools.wraps, {decorator!r}, which returns {name!r} ({place}); "
            f"put @functools.wraps({self.variable}) above {name!r}"
        )


def code_location(code: CodeType) -> str:
    """Returns the place of a function for a message, without the directory: "tasks.py:12"."""
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}"


def without_partials(function: object) -> object:
    """Returns the function to which partials give arguments."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def lowest(function: object) -> object:
    """Returns what is below `functools.wraps` and partials."""
    function = without_partials(function)
    while callable(function) and _has_attribute(function, "__wrapped__"):
        function = without_partials(inspect.unwrap(function))
    return function


def plain_function(function: object) -> FunctionType | None:
    """Returns the function written in Python below wrappers, partials, methods and callable objects, or None."""
    below = lowest(function)
    below = below.__func__ if inspect.ismethod(below) else below
    if isinstance(below, FunctionType):
        return below
    call = inspect.getattr_static(type(below), "__call__", None)
    return call if isinstance(call, FunctionType) else None


def hidden_function(wrapper: object) -> Hidden | None:
    """Returns the function that `wrapper` hides, or None.

    While a module is imported, a function that is being decorated is not in the module's namespace under its own name
    yet, nor is it afterwards if a decorator replaced it. Other functions that `wrapper` refers to are there.
    """
    wrapper = lowest(wrapper)
    if not callable(wrapper) or inspect.isclass(wrapper):
        return None
    for variable, value in _references(wrapper):
        if isinstance(value, FunctionType) and _is_out_of_sight(value):
            return Hidden(function=value, wrapper=wrapper, variable=variable)
    return None


def _has_attribute(value: object, attribute: str) -> bool:
    """As `hasattr`, but runs no code of the value, such as a lazy proxy's."""
    return inspect.getattr_static(value, attribute, None) is not None


def _references(wrapper: Callable[..., Any]) -> Iterator[tuple[str, object]]:
    if isinstance(wrapper, FunctionType):
        for name, cell in zip(wrapper.__code__.co_freevars, wrapper.__closure__ or (), strict=True):
            try:
                yield name, cell.cell_contents
            except ValueError:  # not assigned yet
                continue
    elif isinstance(inspect.getattr_static(type(wrapper), "__call__", None), FunctionType):
        for name in [*_own_attributes(wrapper), *getattr(type(wrapper), "__slots__", ())]:
            try:
                yield f"self.{name}", object.__getattribute__(wrapper, name)
            except AttributeError:  # a slot that is not set
                continue


def _own_attributes(value: object) -> list[str]:
    try:
        return list(object.__getattribute__(value, "__dict__"))
    except AttributeError:  # it has slots only
        return []


def _is_out_of_sight(function: FunctionType) -> bool:
    """Returns whether a function of the top level of a module is not in it under its name."""
    if function.__qualname__ != function.__name__ or not function.__name__.isidentifier():
        return False
    module = sys.modules.get(function.__module__)
    return module is not None and vars(module).get(function.__name__) is not function
