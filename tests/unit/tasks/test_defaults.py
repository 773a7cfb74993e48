"""Each job gets a copy of a mutable default; what is immutable, or cannot be copied, is shared."""

from __future__ import annotations

import array
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from functools import partial, wraps
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel, ConfigDict

from offload.tasks.definition.decorators import task
from offload.tasks.definition.defaults import MutableDefaults
from offload.tasks.definition.parameters import Parameter
from tests.unit.tasks.calling import compiled, result


@dataclass
class Box:
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Frozen:
    value: object = 1


class Model(BaseModel):
    tags: list[str] = []


class FrozenModel(BaseModel):
    model_config = ConfigDict(frozen=True)
    value: Any = 1


class Point(NamedTuple):
    x: Any = 1


class Colour(Enum):
    RED = "red"


def default_for(value: object) -> object:
    """Returns the default that a job gets for this value."""
    defaults = MutableDefaults([Parameter(name="x", hint=Any, is_required=False, default=value)])
    arguments: dict[str, Any] = {}
    defaults.add_to(arguments)
    assert bool(defaults) == bool(arguments)
    return arguments.get("x", value)


@pytest.mark.parametrize(
    "value",
    [
        [1],
        {"a": [1]},
        {1},
        bytearray(b"a"),
        deque([1]),
        defaultdict(list, a=[1]),
        OrderedDict(a=1),
        Counter("a"),
        array.array("i", [1]),
        SimpleNamespace(a=1),
        Box(["a"]),
        Model(tags=["a"]),
        (1, [2]),
        Point([1]),
        Frozen([1]),
        FrozenModel(value=[1]),
        pd.Series([1]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_mutable_default_is_copied(value: object) -> None:
    copied = default_for(value)
    assert copied is not value
    assert (repr(copied), type(copied)) == (repr(value), type(value))


def test_arrays_and_files_in_memory_are_copied() -> None:
    values, file = np.zeros(2), BytesIO(b"ab")
    copied = default_for(values)
    assert isinstance(copied, np.ndarray) and not np.shares_memory(copied, values)
    assert default_for(file) is not file


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        "a",
        b"a",
        (1, (2, "a")),
        frozenset({1}),
        Decimal(1),
        Path("a"),
        Colour.RED,
        Frozen(),
        Point(),
        Box,
        Model,
        len,
        object(),
        [threading.Lock()],
        {"lock": threading.Lock()},
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_immutable_default_and_one_that_cannot_be_copied_are_shared(value: object) -> None:
    assert default_for(value) is value


def test_a_default_that_is_changed_elsewhere_is_as_it_was_written() -> None:
    original = [1]
    defaults = MutableDefaults([Parameter(name="x", hint=Any, is_required=False, default=original)])
    original.append(2)
    arguments: dict[str, object] = {}
    defaults.add_to(arguments)
    assert arguments == {"x": [1]}


def plain(item: Any, seen: list[Any] = []) -> Any:  # noqa: B006  # the subject of the test
    seen.append(item)
    return seen


def positional(item: Any, seen: list[Any] = [], /) -> Any:  # noqa: B006
    return plain(item, seen)


def by_keyword(*, item: Any, seen: Any = {"seen": []}) -> Any:  # noqa: B006
    return plain(item, seen["seen"])


def nested(item: Any, seen: tuple[list[Any], int] = ([], 0)) -> Any:
    return plain(item, seen[0])


@wraps(plain)
def wrapped(*args: Any, **kwargs: Any) -> Any:
    return plain(*args, **kwargs)


class Callee:
    __name__ = "callee"

    def __call__(self, item: Any, seen: list[Any] = []) -> Any:  # noqa: B006
        return plain(item, seen)


@pytest.mark.parametrize(
    ("function", "given"),
    [
        (plain, [0]),
        (positional, [0]),
        (by_keyword, {"seen": [0]}),
        (nested, ([0], 0)),
        (wrapped, [0]),
        (task(name="partial")(partial(plain, seen=[])), [0]),
        (Callee(), [0]),
    ],
    ids=["plain", "positional", "by keyword", "nested", "wrapped", "partial", "callable object"],
)
def test_what_one_job_adds_to_a_default_does_not_reach_the_next(function: Callable[..., Any], given: object) -> None:
    one = compiled(function)
    assert [one.call(one.validate({"item": number})) for number in range(3)] == [[0], [1], [2]]
    assert one.call(one.validate({"item": 1, "seen": given})) == [0, 1]


def test_defaults_inside_the_users_types_are_not_shared_either() -> None:
    class Tagged(NamedTuple):
        name: str
        tags: list[str] = []  # noqa: RUF012  # the subject of the test

    def take(one: Any, box: Any, model: Any) -> Any:
        for tags in (one.tags, box.tags, model.tags):
            tags.append(one.name)
        return [one.tags, box.tags, model.tags]

    take.__annotations__ = {"one": Tagged, "box": Box, "model": Model}
    body = b'{"one": {"name": "a"}, "box": {}, "model": {}}'
    assert [result(take, body), result(take, body)] == [[["a"], ["a"], ["a"]]] * 2
