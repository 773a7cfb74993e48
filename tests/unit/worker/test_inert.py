"""A task that calls nothing leaves nothing behind; any doubt counts as a call."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel

from offload.worker.inert import calls_nothing

LIMIT = 3


class Point(BaseModel):
    x: int


def nothing() -> None:
    pass


def same(value: int = 1) -> int:
    return value


def first(values: list[int] | None) -> dict[str, list[int]]:
    return {"first": [value * 2 for value in values or [] if value]}


def message(text: str, *, count: int = 2) -> str:
    return f"{text} {count:>5}" * count


def calls(path: str) -> None:
    os.chdir(path)


def calls_method(text: str) -> str:
    return text.upper()


def reads_global() -> int:
    return LIMIT


def imports() -> None:
    import json  # noqa: F401


def calls_in_list(paths: list[str]) -> list[list[str]]:
    return [os.listdir(path) for path in paths]


def validated(value: Annotated[int, AfterValidator(os.umask)]) -> int:
    return value


def with_model(point: Point) -> None:
    pass


def with_any_default(value: object = LIMIT) -> object:
    return value


def with_callable_default(value: Any = os.getcwd) -> Any:
    return value()


def with_unknown_type(value: Missing) -> None:  # type: ignore[name-defined]  # noqa: F821
    pass


def closure() -> Callable[[], str]:
    function = os.getcwd

    def inner() -> str:
        return function()

    return inner


@pytest.mark.parametrize("function", [nothing, same, first, message])
def test_functions_that_call_nothing(function: Callable[..., object]) -> None:
    assert calls_nothing(function)


@pytest.mark.parametrize(
    "function",
    [
        calls,
        calls_method,
        reads_global,
        imports,
        calls_in_list,
        validated,
        with_model,
        with_any_default,
        with_callable_default,
        with_unknown_type,
        closure(),
        os.getcwd,
        Point,
    ],
)
def test_functions_that_may_call_something(function: Callable[..., object]) -> None:
    assert not calls_nothing(function)
